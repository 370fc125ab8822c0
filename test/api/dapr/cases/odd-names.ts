/** Names with everything in them that a name may have. */
import { randomInt } from "node:crypto";

const ranges = [
  [0x20, 0x7e],
  [0x20, 0x7e],
  [0xa0, 0x2af],
  [0x4e00, 0x9fa5],
] as const;
const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** Up to 20 characters, without `/` and `%` and not `.` or `..`; a letter first where that is asked for. */
export function oddName(letterFirst = false, forbidden = /[/%]|^\.\.?$/): string {
  for (;;) {
    const characters = Array.from({ length: randomInt(1, 20) }, () => {
      const [first, last] = ranges[randomInt(ranges.length)]!;
      return String.fromCharCode(randomInt(first, last + 1));
    });
    const name = (letterFirst ? letters[randomInt(letters.length)]! : "") + characters.join("");
    if (!forbidden.test(name)) return name;
  }
}

/** So many, all different. */
export function oddNames(count: number, letterFirst = false): string[] {
  const names = new Set<string>();
  while (names.size < count) names.add(oddName(letterFirst));
  return [...names];
}

/** As HTTP paths have it: as forms do. */
export function inPath(name: string): string {
  return encodeURIComponent(name).replaceAll("%20", "+");
}
