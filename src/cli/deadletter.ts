/** `outrider deadletter`. */
import { Command, Option } from "commander";
import type { DeadLetterOptions } from "./dead-letters.ts";
import { addSidecarOptions, componentOption, jsonOption, wholeNumber } from "./options.ts";
import type { Terminal } from "./terminal.ts";

/** The command and its parts. What they do is loaded when one of them is called. */
export function deadLetterCommand(terminal: Terminal): Command {
  const command = new Command("deadletter")
    .summary("list events that were given up, and send them back")
    .description("Looks at events that were given up, and sends them back.");
  const max = () => new Option("--max <count>", "end after this many").argParser(wholeNumber(1));
  command.addCommand(
    addSidecarOptions(
      new Command("list")
        .summary("print the events of a dead-letter topic")
        .description(
          "Prints the events of a dead-letter topic: why, when, how often and from where. Settles none.",
        )
        .argument("<topic>", "the dead-letter topic")
        .addOption(max())
        .addOption(jsonOption("each event as a line of CloudEvents JSON"))
        .addOption(componentOption("pubsub"))
        .action(async (topic: string, options: DeadLetterOptions) =>
          (await import("./dead-letters.ts")).listDeadLetters(terminal, topic, options),
        ),
    ),
  );
  command.addCommand(
    addSidecarOptions(
      new Command("redrive")
        .summary("send dead letters back where they came from")
        .description(
          "Publishes each event of a dead-letter topic to the topic it came from, for the group that gave it " +
            "up, and takes it out of the dead-letter topic once that is acknowledged. Ends when nothing is left.",
        )
        .argument("<topic>", "the dead-letter topic")
        .addOption(max())
        .addOption(jsonOption("the counts as JSON"))
        .addOption(componentOption("pubsub"))
        .action(async (topic: string, options: DeadLetterOptions) =>
          (await import("./dead-letters.ts")).redriveDeadLetters(terminal, topic, options),
        ),
    ),
  );
  return command;
}
