import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findDataDirectory, makeDataDirectory } from "../src/data-directory.ts";

describe("the data directory", () => {
  let root: string;
  const folder = async (...parts: string[]) => {
    const path = join(root, ...parts);
    await mkdir(path, { recursive: true });
    return path;
  };

  beforeEach(async () => {
    root = await realpath(await mkdtemp(join(tmpdir(), "outrider-data-")));
  });
  afterEach(() => rm(root, { recursive: true }));

  it("is the one that was asked for, from the working directory", () => {
    expect(findDataDirectory(root, "elsewhere")).toBe(join(root, "elsewhere"));
    expect(findDataDirectory(root, "/var/lib/outrider")).toBe("/var/lib/outrider");
  });

  it("is in the root of the repository, wherever in it a sidecar is started", async () => {
    await folder("project", ".git");
    const service = await folder("project", "services", "orders");
    expect(findDataDirectory(service, undefined)).toBe(join(root, "project", ".outrider"));
    expect(findDataDirectory(service, "")).toBe(join(root, "project", ".outrider"));
  });

  it("is one that exists further down, where a part of a repository has its own", async () => {
    await folder("project", ".git");
    const own = await folder("project", "demo", ".outrider");
    expect(findDataDirectory(await folder("project", "demo", "app"), undefined)).toBe(own);
  });

  it("is never one outside the repository", async () => {
    await folder(".outrider");
    await folder("project", ".git");
    expect(findDataDirectory(join(root, "project"), undefined)).toBe(join(root, "project", ".outrider"));
  });

  it("is in the working directory when there is no project", () => {
    expect(findDataDirectory(root, undefined)).toBe(join(root, ".outrider"));
  });

  it("keeps itself out of the repository, and leaves a .gitignore that is there alone", async () => {
    const path = join(root, "a", ".outrider");
    await makeDataDirectory(path);
    expect(await readFile(join(path, ".gitignore"), "utf8")).toBe("*\n");
    await writeFile(join(path, ".gitignore"), "mine\n");
    await makeDataDirectory(path);
    expect(await readFile(join(path, ".gitignore"), "utf8")).toBe("mine\n");
  });
});
