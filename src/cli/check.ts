/** `outrider check`. */
import { Command } from "commander";
import { jsonOption } from "./options.ts";
import { CommandFailure, exitCodes, print, printJson, type Terminal } from "./terminal.ts";

interface CheckOptions {
  readonly appId?: string;
  readonly json?: boolean;
}

/** The command. */
export function checkCommand(terminal: Terminal): Command {
  return new Command("check")
    .summary("check YAML without starting anything")
    .description(
      "Reads and checks all YAML in files and directories as a sidecar would, and opens nothing. " +
        "Tells every mistake at once. Ends with 2 when there is one.",
    )
    .argument("<paths...>", "files and directories")
    .option("--app-id <id>", "as the sidecar of this application (default: as for any)")
    .addOption(jsonOption("mistakes and notes, each as a line of JSON"))
    .action((paths: string[], options: CheckOptions) => check(terminal, paths, options));
}

async function check(terminal: Terminal, paths: readonly string[], options: CheckOptions): Promise<void> {
  const [config, { ConfigError }, { makeAssembly }] = await Promise.all([
    import("../config/check.ts"),
    import("../config/remarks.ts"),
    import("../assembly.ts"),
  ]);
  const appId = options.appId === undefined ? {} : { appId: options.appId };
  try {
    const sound = await config.check(paths, { ...makeAssembly(), environment: terminal.env, ...appId });
    if (!options.json) return await print(terminal, `${config.describe(sound)}\n`);
    for (const remark of sound.notes) await printJson(terminal, { severity: "note", ...remark });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    if (!options.json) throw new CommandFailure(error.format(), exitCodes.usage);
    for (const remark of error.mistakes) await printJson(terminal, { severity: "mistake", ...remark });
    throw new CommandFailure("", exitCodes.usage);
  }
}
