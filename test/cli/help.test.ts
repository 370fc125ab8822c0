/** What the command line tells of itself. */
import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeProject, outrider, removeProject } from "../outrider.ts";

let cwd: string;
beforeAll(async () => {
  cwd = await makeProject();
});
afterAll(() => removeProject(cwd));

const run = (...words: readonly string[]) => outrider(words, { cwd });

describe("the help", () => {
  it("is there for every command, on standard output, with what it is for", async () => {
    const commands = [
      "run",
      "publish",
      "subscribe",
      "state",
      "state get",
      "state set",
      "state delete",
      "state list",
      "state watch",
      "metadata",
      "deadletter",
      "deadletter list",
      "deadletter redrive",
      "check",
      "completion",
    ];
    for (const command of commands) {
      const { code, stdout, stderr } = await run(...command.split(" "), "--help");
      expect({ code, stderr }, command).toEqual({ code: 0, stderr: "" });
      expect(stdout, command).toContain(`Usage: outrider ${command}`);
    }
    const { stdout } = await run("--help");
    for (const command of commands)
      expect(stdout).toMatch(new RegExp(`^ {2}${command.split(" ")[0]}\\b`, "m"));
    expect((await run("--version")).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    // Seventeen processes, one after the other.
  }, 120_000);
});

describe("the completion of a shell", () => {
  const shells = ["bash", "zsh", "fish"].filter((shell) => spawnSync(shell, ["--version"]).status === 0);

  it(`is a script that the shell accepts: ${shells.join(", ")}`, async () => {
    for (const shell of shells) {
      const { stdout } = await run("completion", shell);
      const { status, stderr } = spawnSync(shell, ["-n"], { input: stdout, encoding: "utf8" });
      expect({ status, stderr }, shell).toEqual({ status: 0, stderr: "" });
    }
  });

  it("knows commands, their parts and their flags", async () => {
    const { stdout: script } = await run("completion", "bash");
    const complete = (...words: readonly string[]) => {
      const ask = `COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _outrider; printf '%s\\n' "\${COMPREPLY[@]}"`;
      return spawnSync("bash", ["-c", `${script}\n${ask}`], { encoding: "utf8", cwd })
        .stdout.split("\n")
        .filter(Boolean);
    };
    expect(complete("outrider", "sub")).toEqual(["subscribe"]);
    expect(complete("outrider", "state", "")).toContain("watch");
    expect(complete("outrider", "state", "get", "--out")).toEqual(["--output"]);
    expect(complete("outrider", "run", "--dapr-g")).toContain("--dapr-grpc-port");
    expect(complete("outrider", "run", "--sentry-a")).toEqual([]);
    expect(complete("outrider", "completion", "z")).toEqual(["zsh"]);
  });
});
