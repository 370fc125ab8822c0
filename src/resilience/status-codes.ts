/** Lists of status codes, such as `429,501-503`. */
import type { Code } from "@connectrpc/connect";

/** Whether a code is in a list. */
export type StatusCodes = (code: number) => boolean;

/** Reads a list; undefined when it is none, or has codes outside of the range. */
export function parseStatusCodes(
  list: string,
  [least, most]: readonly [number, number],
): StatusCodes | undefined {
  const ranges: [number, number][] = [];
  for (const part of list.split(",")) {
    const [, from, to = from] = /^\s*(\d+)\s*(?:-\s*(\d+)\s*)?$/.exec(part) ?? [];
    if (from === undefined) return undefined;
    const range: [number, number] = [Number(from), Number(to)];
    if (range[0] < least || range[1] > most || range[0] > range[1]) return undefined;
    ranges.push(range);
  }
  return (code) => ranges.some(([first, last]) => code >= first && code <= last);
}

/** HTTP statuses by gRPC code, as Dapr has them. */
const httpStatuses: Readonly<Record<Code, number>> = {
  1: 408,
  2: 500,
  3: 400,
  4: 504,
  5: 404,
  6: 409,
  7: 403,
  8: 429,
  9: 400,
  10: 409,
  11: 400,
  12: 501,
  13: 500,
  14: 503,
  15: 500,
  16: 401,
};

/** The HTTP status that a gRPC code is on the HTTP API. */
export function httpStatusOf(code: Code): number {
  return httpStatuses[code];
}
