/** The command line as a whole. */
import { Command, CommanderError } from "commander";
import { nearest } from "../config/suggest.ts";
import { version } from "../version.ts";
import { CommandFailure, exitCodes, note, type Terminal } from "./terminal.ts";

/** In the order of the help. */
const commands: Readonly<Record<string, () => Promise<(terminal: Terminal, program: Command) => Command>>> = {
  run: async () => (await import("./run.ts")).runCommand,
  publish: async () => (await import("./publish.ts")).publishCommand,
  subscribe: async () => (await import("./subscribe.ts")).subscribeCommand,
  state: async () => (await import("./state.ts")).stateCommand,
  metadata: async () => (await import("./metadata.ts")).metadataCommand,
  deadletter: async () => (await import("./deadletter.ts")).deadLetterCommand,
  check: async () => (await import("./check.ts")).checkCommand,
  completion: async () => (await import("./completion.ts")).completionCommand,
};

/** The tree of commands: one command alone where that is all that is needed, a sidecar is to start soon. */
async function makeProgram(terminal: Terminal, first = ""): Promise<Command> {
  const program = new Command("outrider")
    .description("A distributed application runtime: building blocks for applications that never listen.")
    .version(version, "--version", "print the version")
    .helpOption("-h, --help", "print help");
  const alone = first !== "completion" && Object.hasOwn(commands, first);
  for (const [name, load] of Object.entries(commands)) {
    if (alone && name !== first) continue;
    const make = await load();
    program.addCommand(make(terminal, program));
  }
  configure(program, terminal);
  return program;
}

/** Runs a command line, without the names of the interpreter and the script. Returns the exit code. */
export async function runCommandLine(terminal: Terminal, words: readonly string[]): Promise<number> {
  try {
    const program = await makeProgram(terminal, words[0]);
    await program.parseAsync(words, { from: "user" });
    return exitCodes.success;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.success : exitCodes.usage;
    if (error instanceof CommandFailure) {
      if (error.message !== "") note(terminal, `outrider: ${error.message}`);
      return error.exitCode;
    }
    note(terminal, `outrider: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    return exitCodes.failure;
  }
}

/** Commander suggests only one of the two names that a flag may have. */
function suggestOption(text: string, command: Command): string {
  const unknown = /^error: unknown option '(--[^']+)'/.exec(text);
  if (!unknown) return text;
  const names = command.options
    .flatMap(({ short, long }) => [long, short])
    .filter((name) => name !== undefined);
  const flag = unknown[1]!.split("=", 1)[0]!;
  const suggestion = nearest(flag, names);
  return `${unknown[0]}${suggestion ? `\n(Did you mean ${suggestion}?)` : ""}\n`;
}

/** What commander does not hand down to commands that are made apart. */
function configure(command: Command, terminal: Terminal): void {
  command
    .exitOverride()
    .showSuggestionAfterError()
    .allowExcessArguments(false)
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
      outputError: (text, write) =>
        write(`outrider: ${suggestOption(text, command).replace(/^error: /, "")}`),
    })
    .configureHelp({ showGlobalOptions: false, sortSubcommands: false });
  for (const part of command.commands) configure(part, terminal);
}
