/** `outrider state`. */
import { Command, Option } from "commander";
import {
  addSidecarOptions,
  componentOption,
  durationMs,
  gatherPairs,
  jsonOption,
  wholeNumber,
} from "./options.ts";
import type { Terminal } from "./terminal.ts";

/** The command and its parts. What they do is loaded when one of them is called. */
export function stateCommand(terminal: Terminal): Command {
  const command = new Command("state")
    .summary("read and write items in a state store")
    .description("Reads and writes items in a state store.");
  command.addCommand(
    addSidecarOptions(
      new Command("get")
        .summary("print the value of a key")
        .description("Prints the value of a key as it is. Ends with 1 when there is none.")
        .argument("<key>")
        .option("-o, --output <file>", "write the value to a file, of any size")
        .addOption(jsonOption("the whole item as JSON"))
        .addOption(componentOption("state"))
        .action(async (key, options) => (await import("./state-items.ts")).get(terminal, key, options)),
    ),
  );
  command.addCommand(
    addSidecarOptions(
      new Command("set")
        .summary("write a value")
        .description("Writes a value of any size and prints its etag.")
        .argument("<key>")
        .argument("[value]", 'the value; "-" reads it from standard input')
        .option("-f, --file <path>", "read the value from a file")
        .option("--etag <etag>", "only if the item has this etag")
        .addOption(new Option("--absent", "only if there is no such item").conflicts("etag"))
        .addOption(new Option("--ttl <duration>", "the item ends after this long").argParser(durationMs))
        .option(
          "--content-type <type>",
          "media type (default: application/json if it is JSON, else text/plain)",
        )
        .addOption(
          new Option("--metadata <name=value>", "kept with the item; repeatable").argParser(gatherPairs),
        )
        .addOption(jsonOption("the etag as JSON"))
        .addOption(componentOption("state"))
        .action(async (key, value, options) =>
          (await import("./state-items.ts")).set(terminal, key, value, options),
        ),
    ),
  );
  command.addCommand(
    addSidecarOptions(
      new Command("delete")
        .summary("delete a key")
        .description("Deletes a key. A key that is not there is no error.")
        .argument("<key>")
        .option("--etag <etag>", "only if the item has this etag")
        .addOption(componentOption("state"))
        .action(async (key, options) => (await import("./state-items.ts")).remove(terminal, key, options)),
    ),
  );
  command.addCommand(
    addSidecarOptions(
      new Command("list")
        .summary("list keys")
        .description("Lists the keys that begin with a prefix, in their order.")
        .argument("[prefix]", "what they begin with", "")
        .addOption(new Option("--max <count>", "end after this many").argParser(wholeNumber(1)))
        .option("--values", "with --json: values too")
        .addOption(jsonOption("each item as a line of JSON"))
        .addOption(componentOption("state"))
        .action(async (prefix, options) =>
          (await import("./state-follow.ts")).list(terminal, prefix, options),
        ),
    ),
  );
  command.addCommand(
    addSidecarOptions(
      new Command("watch")
        .summary("print changes as they happen")
        .description("Prints what is there, then every change, until it is interrupted.")
        .argument("[key]", "the key to follow")
        .option("--prefix <prefix>", "follow all keys that begin with this")
        .addOption(new Option("--max <count>", "end after this many lines").argParser(wholeNumber(1)))
        .addOption(jsonOption("each change as a line of JSON"))
        .addOption(componentOption("state"))
        .action(async (key, options) => (await import("./state-follow.ts")).watch(terminal, key, options)),
    ),
  );
  return command;
}
