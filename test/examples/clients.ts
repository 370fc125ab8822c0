/** What the examples in Python and Go both do, so that their tests say the same of both. */
import { expect } from "vitest";
import { type Checkout, shell } from "./checkout.ts";

/** Runs the commands of an example's README in their order, the last one twice, and looks at what the program prints. */
export async function expectSales(checkout: Checkout, name: string, commands: readonly string[]) {
  const here = checkout.example(name);
  const run = commands.at(-1)!;
  for (const command of commands.slice(0, -1)) await shell(command, here);
  expect(printed(await shell(run, here), name)).toEqual(sales(2, 5));
  // What was sold is kept by the sidecar, and this is another one.
  expect(printed(await shell(run, here), name)).toEqual(sales(7, 10));
}

/** The lines of the program: languages differ in the spaces of their JSON. */
function printed(output: string, name: string): string[] {
  const mark = `[${name}] `;
  return output
    .split("\n")
    .filter((line) => line.startsWith(mark))
    .map((line) => line.slice(mark.length).replaceAll(/([:,]) (?="|\d+\})/g, "$1"));
}

function sales(first: number, second: number): string[] {
  return [
    "3 orders published",
    `{"item":"tea","quantity":2}: ${first} sold`,
    '{"item":"tea","quantity":0}: nothing was ordered',
    `{"item":"tea","quantity":3}: ${second} sold`,
    "all settled",
  ];
}
