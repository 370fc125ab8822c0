/** A member of a group in a process of its own, which can be killed and frozen. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";

/** How it subscribes. */
export interface MemberOptions {
  readonly ordered?: boolean;
  /** Of the component. */
  readonly fields?: Readonly<Record<string, string>>;
}

/** See the head of this file. It receives an event, and the next one when it has been told to settle that. */
export class Member {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess, lines: Interface) {
    this.#child = child;
    this.#lines = lines[Symbol.asyncIterator]();
  }

  static async start(
    port: number,
    topic: string,
    group: string,
    { ordered = true, fields = {} }: MemberOptions = {},
  ): Promise<Member> {
    const program = join(import.meta.dirname, "member-process.ts");
    const more = JSON.stringify({ sessionTimeout: "2s", heartbeatInterval: "200ms", ...fields });
    const words = [program, String(port), topic, group, String(ordered), more];
    const child = spawn(process.execPath, words, { stdio: ["pipe", "pipe", "inherit"] });
    await once(child, "spawn");
    return new Member(child, createInterface({ input: child.stdout! }));
  }

  /** The next thing that it says. */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    return done ? "" : value;
  }

  say(word: string): void {
    this.#child.stdin!.write(`${word}\n`);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}
