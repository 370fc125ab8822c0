/** The command line as a whole. */
import { Command, CommanderError } from "commander";
import { nearest } from "../config/suggest.ts";
import { version } from "../version.ts";
import { checkCommand } from "./check.ts";
import { completionCommand } from "./completion.ts";
import { deadLetterCommand } from "./deadletter.ts";
import { metadataCommand } from "./metadata.ts";
import { publishCommand } from "./publish.ts";
import { runCommand } from "./run.ts";
import { stateCommand } from "./state.ts";
import { subscribeCommand } from "./subscribe.ts";
import { CommandFailure, exitCodes, note, type Terminal } from "./terminal.ts";

/** The tree of commands. */
function makeProgram(terminal: Terminal): Command {
  const program = new Command("outrider")
    .description("A distributed application runtime: building blocks for applications that never listen.")
    .version(version, "--version", "print the version")
    .helpOption("-h, --help", "print help");
  const commands = [
    runCommand,
    publishCommand,
    subscribeCommand,
    stateCommand,
    metadataCommand,
    deadLetterCommand,
    checkCommand,
  ];
  for (const make of commands) program.addCommand(make(terminal));
  program.addCommand(completionCommand(terminal, program));
  configure(program, terminal);
  return program;
}

/** Runs a command line, without the names of the interpreter and the script. Returns the exit code. */
export async function runCommandLine(terminal: Terminal, words: readonly string[]): Promise<number> {
  try {
    await makeProgram(terminal).parseAsync(words, { from: "user" });
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
