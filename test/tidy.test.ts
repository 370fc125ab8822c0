/** Rules about the code itself. A rule that is not checked is a wish. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { basename, dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "..");

interface File {
  /** From the root of the project. */
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
}

function filesUnder(folder: string): File[] {
  if (!existsSync(join(root, folder))) return [];
  return (
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      // `absent-…`: made and removed by test/servers/require.test.ts, which may run now.
      .filter((path) => !/\/(node_modules|dist|__pycache__|\.outrider|absent-\w+)\//.test(path))
      .map(read)
  );
}

function read(path: string): File {
  const text = readFileSync(path, "utf8");
  return { path: relative(root, path), text, lines: text.split("\n") };
}

const isTypeScript = ({ path }: File) => path.endsWith(".ts");
const sources = filesUnder("src").filter(isTypeScript);
const tests = filesUnder("test").filter(isTypeScript);
const programs = [...filesUnder("bench"), ...filesUnder("examples")].filter(isTypeScript);

/** What runs by itself when it is loaded. */
const entryPoints = /^src\/(main|outriderd|components\/sqlite\/worker)\.ts$/;

/** What a file imports: packages by name, files by their path from the root. */
function importsOf(file: File): string[] {
  const names = [...file.text.matchAll(/^(?:import|export)\b[^;]*?from "([^"]+)"/gm)];
  const lazy = [...file.text.matchAll(/\bimport\("([^"]+)"\)/g)];
  return [...names, ...lazy].map(([, name]) =>
    name!.startsWith(".") ? relative(root, resolve(root, dirname(file.path), name!)) : name!,
  );
}

/** Imports in files whose path matches, of things whose name matches. */
function imports(path: RegExp, wrong: RegExp): string[] {
  return sources
    .filter((file) => path.test(file.path))
    .flatMap((file) =>
      importsOf(file)
        .filter((name) => wrong.test(name))
        .map((name) => `${file.path}: ${name}`),
    );
}

/** Places of lines that match, as path:line. */
function linesThat(match: RegExp, files: readonly File[]): string[] {
  return files.flatMap(({ path, lines }) =>
    lines.flatMap((line, index) => (match.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
  );
}

describe("files", () => {
  it("are at most 500 lines long", () => {
    const long = [...sources, ...tests, ...programs].filter(({ lines }) => lines.length > 501);
    expect(long.map(({ path, lines }) => `${path}: ${lines.length - 1}`)).toEqual([]);
  });

  it("are named after what is in them, in kebab-case", () => {
    const names = [...sources, ...tests].map(({ path }) => path);
    expect(names.filter((path) => /(^|\/)(utils?|helpers?|common|shared|misc)(\/|\.)/.test(path))).toEqual(
      [],
    );
    expect(names.filter((path) => !/^[a-z0-9]+([-./][a-z0-9]+)*$/.test(path))).toEqual([]);
  });

  it("have the same names in every block", () => {
    const blocks = readdirSync(join(root, "src/blocks"), { withFileTypes: true }).filter((entry) =>
      entry.isDirectory(),
    );
    const missing = blocks.flatMap(({ name }) => {
      const has = (file: string) => existsSync(join(root, "src/blocks", name, file));
      const wanted = has("driver.ts") ? ["service.ts", "settings.ts"] : ["service.ts"];
      return wanted.filter((file) => !has(file)).map((file) => `${name}/${file}`);
    });
    expect(missing).toEqual([]);
  });

  it("of decisions are in their index, in order and by their titles", () => {
    const decisions = filesUnder("docs/decisions").filter(({ path }) => /\/\d{4}-[^/]+\.md$/.test(path));
    const expected = decisions
      .map(({ path, lines }) => `- ${lines[0]!.replace(/^# (\d+)\. (.*)$/, "$1: [$2]")}(${basename(path)})`)
      .sort((one, other) => Number.parseInt(one.slice(2), 10) - Number.parseInt(other.slice(2), 10));
    const index = read(join(root, "docs/decisions/README.md"));
    expect(index.lines.filter((line) => line.startsWith("- "))).toEqual(expected);
  });

  it("name no place that is on one machine only", () => {
    const places = new RegExp(`(^|[\\s"'\`(=:])/(${["work", "root", "home/[a-z]+", "Users"].join("|")})/`);
    const written = [
      ...filesUnder("docs"),
      ...filesUnder("proto"),
      ...filesUnder("examples"),
      ...filesUnder(".ci"),
    ];
    const top = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isFile());
    const files = [
      ...sources,
      ...tests,
      ...filesUnder("bench"),
      ...written,
      ...top.map(({ name }) => read(join(root, name))),
    ];
    expect(linesThat(places, files)).toEqual([]);
    const lock = files.filter(({ path }) => ["package-lock.json", ".npmrc"].includes(path));
    expect(linesThat(/"resolved": "https?:|^registry|\/\/[^/]*:_/, lock)).toEqual([]);
  });
});

describe("imports", () => {
  it("keep blocks free of servers, components, the command line and the runtime", () => {
    expect(imports(/^src\/blocks\//, /^src\/(server|components|cli|runtime|main)\b/)).toEqual([]);
  });

  it("keep blocks free of libraries, except those that are part of what a block is", () => {
    const part = "@bufbuild/protobuf|@connectrpc/connect(?!-)|@opentelemetry/api|zod|node:";
    expect(imports(/^src\/blocks\//, new RegExp(`^(?!src/|gen/|${part}|@marcbachmann/cel-js$)`))).toEqual([]);
    expect(imports(/^src\/blocks\/(?!pubsub\/)/, /^@marcbachmann\/cel-js$/)).toEqual([]);
  });

  it("keep servers free of blocks and components", () => {
    expect(imports(/^src\/server\//, /^src\/(blocks|components|cli|runtime|main)\b/)).toEqual([]);
  });

  it("keep components free of each other, of servers and of the command line", () => {
    expect(imports(/^src\/components\//, /^src\/(server|cli|runtime|main)\b/)).toEqual([]);
    const across = sources.flatMap((file) => {
      const own = /^src\/components\/([^/]+)\//.exec(file.path)?.[1];
      if (own === undefined) return [];
      return importsOf(file).filter((name) => (/^src\/components\/([^/]+)\//.exec(name)?.[1] ?? own) !== own);
    });
    expect(across).toEqual([]);
  });

  it("let each library in where it belongs, and nowhere else", () => {
    const homes: readonly (readonly [library: RegExp, home: RegExp])[] = [
      [/^@grpc\/grpc-js$/, /^src\/(server\/|telemetry\/otlp-grpc\.ts$)/],
      [/^@connectrpc\/connect-node$/, /^src\/(server\/|cli\/client\.ts$|components\/pluggable\/)/],
      [/^@marcbachmann\/cel-js$/, /^src\/(blocks\/pubsub|resilience)\//],
      [/^@opentelemetry\/(?!api$)/, /^src\/telemetry\//],
      [/^pino(-pretty)?$/, /^src\/telemetry\//],
      [/^commander$/, /^src\/(cli\/|main\.ts$)/],
      [/^yaml$/, /^src\/config\//],
      [/^ioredis$/, /^src\/components\/redis\//],
      [/^kafkajs$/, /^src\/components\/kafka\//],
      [/^pg$/, /^src\/components\/postgresql\//],
      [/^@nats-io\//, /^src\/components\/jetstream\//],
      [/^node:sqlite$/, /^src\/components\/sqlite\//],
      [/^node:(http|https|http2)$/, /^src\/(server|api\/dapr\/app|components\/pluggable)\//],
      [/^node:child_process$/, /^src\/cli\//],
      // Part of every layer's language.
      [/^(@bufbuild\/protobuf|@connectrpc\/connect|@opentelemetry\/api|zod)(\/|$)/, /^src\//],
    ];
    expect(
      homes.flatMap(([library, home]) => imports(new RegExp(`^(?!${home.source.slice(1)})`), library)),
    ).toEqual([]);
    const dependencies = Object.keys(
      JSON.parse(readFileSync(join(root, "package.json"), "utf8")).dependencies,
    );
    const homeless = dependencies.filter((name) => !homes.some(([library]) => library.test(name)));
    expect(homeless, "each dependency has a home in this test").toEqual([]);
  });

  it("name packages that package.json has, and Node's modules with their prefix", () => {
    const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const declared = new Set(Object.keys(manifest.dependencies));
    const builtin = new Set(builtinModules.map((name) => `node:${name.replace(/^node:/, "")}`));
    const unknown = sources.flatMap((file) =>
      importsOf(file)
        .filter((name) => !/^(src|gen)\//.test(name) && name !== "package.json" && !builtin.has(name))
        .filter((name) => !declared.has(name.split("/", name.startsWith("@") ? 2 : 1).join("/")))
        .map((name) => `${file.path}: ${name}`),
    );
    expect(unknown).toEqual([]);
  });
});

describe("modules", () => {
  const modules = sources.filter(({ path }) => !entryPoints.test(path));

  it("leave the environment, the terminal and the end of the process to main.ts and cli/", () => {
    const inside = modules.filter(({ path }) => !path.startsWith("src/cli/"));
    const banned = /\bprocess\.(env|exit|exitCode|argv|stdin|stdout|stderr|cwd|on|once)\b|\bconsole\./;
    expect(linesThat(banned, inside)).toEqual([]);
  });

  it("keep no state of their own", () => {
    // The formatter puts what is at the top level, and only that, at the beginning of a line.
    expect(linesThat(/^(export )?(let|var) /, modules)).toEqual([]);
    const collection =
      /^(export )?const \w+(: (?!Readonly|readonly )[^=]+)? = (new (Map|Set|WeakMap|WeakSet|Array)\b|\[\]|\{\};)/;
    expect(
      linesThat(collection, modules).filter((line) => !/Readonly(Map|Set)|new Set\(\[/.test(line)),
    ).toEqual([]);
  });

  it("do nothing at the top level but declare", () => {
    expect(linesThat(/^(await|if|for|while|try|switch|new|do) ?\b[^:]/, modules)).toEqual([]);
    expect(linesThat(/^[a-zA-Z_$][\w$]*(\??\.[\w$]+)*\(/, modules)).toEqual([]);
    expect(linesThat(/^import "/, modules)).toEqual([]);
  });

  it("start nothing when they are loaded", () => {
    const script = `
      for (const path of ${JSON.stringify(modules.map(({ path }) => path))}) await import("./" + path);
      const held = process.getActiveResourcesInfo().filter((name) => !/^(TTYWrap|PipeWrap|FSReqPromise|CloseReq)$/.test(name));
      if (held.length > 0) console.log("still active:", held.join(", "));`;
    const args = ["--input-type=module", "--no-warnings", "--eval", script];
    const { stdout, stderr, status } = spawnSync(process.execPath, args, {
      cwd: root,
      encoding: "utf8",
      timeout: 15_000,
    });
    expect({ stdout, stderr, status }).toEqual({ stdout: "", stderr: "", status: 0 });
  });
});

describe("tests", () => {
  it("have titles that say what is, not what should be", () => {
    expect(linesThat(/\bit(\.\w+\(.*\))?\(\s*["'`]should\b/i, tests)).toEqual([]);
  });

  it("all run, or print why not", () => {
    expect(linesThat(/\b(it|test|describe|suite)\.(only|skip|todo|fails)\b(?!If)/, tests)).toEqual([]);
  });

  it("do not wait for time to pass", () => {
    expect(
      linesThat(/\bsetTimeout\((resolve|done|\w+Resolve),|\bsleep\(\d|timers\/promises"/, tests),
    ).toEqual([]);
  });

  it("are beside what they test: each folder of src/ has one of the same name in test/, or one of its files", () => {
    const stray = tests
      .filter(
        ({ path }) =>
          /\.test\.ts$/.test(path) &&
          !/^test\/(conformance|end-to-end|examples|servers|api\/dapr\/(cases|sdks))\//.test(path),
      )
      .map(({ path }) => dirname(path).replace(/^test/, "src"))
      .filter(
        (folder) =>
          ![folder, `${folder}.ts`, folder.replaceAll("-", "/")].some((path) => existsSync(join(root, path))),
      );
    expect([...new Set(stray)]).toEqual([]);
  });
});
