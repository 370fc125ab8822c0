/**
 * Bundles `dist/`, for the package and the image: `node build.ts`, or another folder: `node build.ts <folder>`.
 *
 * What every sidecar loads is one file, because to find and link a file costs half a millisecond. What is imported lazily
 * besides stays in files of its own, which are not read before they are needed. `outriderd` is one file, to be put
 * wherever a daprd was: it names its interpreter by its path, and needs nothing else.
 */
import { chmod, rm, writeFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { type BuildOptions, build, type OutputOptions, type Plugin } from "rolldown";

const folder = process.argv[2] ?? "dist";

/** The names that a module of CommonJS or of Node exports. */
function namesOf(module: object): string[] {
  return Object.keys(module).filter((name) => !["default", "module.exports"].includes(name));
}

/**
 * An import of a module of Node reads every property that it exports, also
 * those that load half of Node when they are read: `WebSocket` of node:http is
 * one. Here only what is used is read, and once. This saves
 * some 80 ms and 10 MB at the start. Each importer has a copy of its own: one for all would also read, with
 * the start, what only files that are loaded later use.
 */
const leanBuiltins: Plugin = {
  name: "lean-builtins",
  resolveId(path, importer, { kind }) {
    if (!importer || !path.startsWith("node:") || kind !== "import-statement") return null;
    return { id: `\0builtin:${path}?${relative(".", importer)}`, moduleSideEffects: false };
  },
  load(id) {
    const path = /^\0builtin:(.*)\?/s.exec(id)?.[1];
    if (!path) return null;
    const named = namesOf(process.getBuiltinModule(path) as object).map(
      (name) => `export const ${name} = /* @__PURE__ */ (() => $module.${name})();`,
    );
    return `const $module = /* @__PURE__ */ process.getBuiltinModule(${JSON.stringify(path)});
      export default $module;
      ${named.join("\n")}`;
  },
};

/** Libraries ask for these when they are loaded, and hardly a sidecar uses them. Loaded when they are used, they save 7 ms and 1 MB. */
const lateBuiltins: Plugin = {
  name: "late-builtins",
  resolveId(path) {
    const [, name] = /^(?:node:)?(zlib|child_process)$/.exec(path) ?? [];
    return name ? { id: `\0late-builtin:${name}`, moduleSideEffects: false } : null;
  },
  load(id) {
    const [, name] = id.split("\0late-builtin:");
    if (name === undefined) return null;
    const builtin = process.getBuiltinModule(name) as object as Record<string, unknown>;
    const members = namesOf(builtin).map((member) => {
      // Some take functions as they are loaded.
      const isFunction = typeof builtin[member] === "function" && !/^[A-Z]/.test(member);
      return isFunction
        ? `${member}: (...args) => load().${member}(...args)`
        : `get ${member}() { return load().${member}; }`;
    });
    return `const load = () => process.getBuiltinModule("node:${name}");
      module.exports = { ${members.join(", ")} };`;
  },
};

/**
 * Libraries that most sidecars never use, or not before they are ready; but where they are used, it is without waiting. Each is
 * a file of its own, read by `require` when something of it is used first. This saves some 30 ms at the start.
 */
const lateLibraries = [
  { library: "@marcbachmann/cel-js", file: "cel.cjs", exports: "named" },
  { library: "pino-pretty", file: "pino-pretty.cjs", exports: "auto" },
] as const;

const loadLate: Plugin = {
  name: "late-libraries",
  resolveId(path) {
    if (lateLibraries.some(({ file }) => path === `./${file}`)) return { id: path, external: true };
    const isLate = lateLibraries.some(({ library }) => path === library);
    return isLate ? { id: `\0late:${path}`, moduleSideEffects: false } : null;
  },
  async load(id) {
    const late = lateLibraries.find(({ library }) => id === `\0late:${library}`);
    if (!late) return null;
    const getters = namesOf((await import(late.library)) as object).map(
      (name) => `get ${name}() { return require("./${late.file}").${name}; }`,
    );
    return `module.exports = { ${getters.join(", ")} };`;
  },
};

/** What our server uses of grpc-js: where it is, and its name there. */
const grpcServer = {
  Metadata: ["metadata"],
  Server: ["server"],
  ServerCredentials: ["server-credentials"],
  ServerInterceptingCall: ["server-interceptors"],
  logVerbosity: ["constants", "LogVerbosity"],
  setLogVerbosity: ["logging", "setLoggerVerbosity"],
} as const;

/**
 * Two thirds of grpc-js are a client, which only an exporter of traces uses; the server is loaded without. Services for debugging, which
 * are off, would bring the client back, and a second protobuf library with two more. This saves some 10 ms at the start.
 */
const grpcServerAlone: Plugin = {
  name: "grpc-server-alone",
  resolveId(path, importer = "") {
    if (path === "@grpc/grpc-js" && importer.startsWith(resolve("src/server")))
      return { id: "\0grpc-server", moduleSideEffects: false };
    const forDebugging = path === "./make-client" && /\/(channelz|orca)\.js$/.test(importer);
    return forDebugging || path === "@grpc/proto-loader" ? `\0absent:${path}` : null;
  },
  load(id) {
    if (id.startsWith("\0absent:")) return "module.exports = {};";
    if (id !== "\0grpc-server") return null;
    const exports = Object.entries(grpcServer).map(
      ([name, [file, there = name]]) =>
        `export { ${there} as ${name} } from "@grpc/grpc-js/build/src/${file}.js";`,
    );
    return exports.join("\n");
  },
};

/** Of a file with any other character Node keeps two bytes for each, and takes longer to read it. */
const asciiOnly: Plugin = {
  name: "ascii-only",
  generateBundle(_options, bundle) {
    for (const file of Object.values(bundle)) {
      if (file.type === "chunk") file.code = file.code.replace(/[^\0-\x7f]/g, escaped);
    }
  },
};

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** The code of the store's thread, in a bundle that has no file beside it. */
function inlineWorker(code: string): Plugin {
  return {
    name: "inline-worker",
    load(id) {
      if (id !== resolve("src/components/sqlite/start-worker.ts")) return null;
      return `import { Worker } from "node:worker_threads";
        const code = ${JSON.stringify(code)};
        export const startWorker = (options) => new Worker(code, { ...options, eval: true });`;
    },
  };
}

/** What there is to say of a bundle; without `codeSplitting` it is one file. */
function options(entry: string, output: OutputOptions, plugins: readonly Plugin[] = []): BuildOptions {
  return {
    input: entry,
    platform: "node",
    transform: { target: "node24" },
    plugins: [...plugins, lateBuiltins, leanBuiltins, grpcServerAlone, asciiOnly],
    logLevel: "warn",
    output: {
      format: "esm",
      codeSplitting: false,
      comments: false,
      // Not names: they are what a stack trace has to offer.
      minify: { compress: true, mangle: false, codegen: true },
      ...output,
    },
  };
}

const storeThread = "src/components/sqlite/worker.ts";

/** What a sidecar loads one after the other until it is ready, each with all that it imports. */
const start = /\/src\/cli\/(program|terminal|run|run-sidecar)\.ts$/;

await rm(folder, { recursive: true, force: true });
await Promise.all([
  build(
    options(
      "src/main.ts",
      {
        dir: folder,
        entryFileNames: "outrider.js",
        // Beside the entry, so that what finds a file by its own address finds it there.
        chunkFileNames: "[name]-[hash].js",
        codeSplitting: { groups: [{ name: "start", test: start }] },
      },
      [loadLate],
    ),
  ),
  // A thread of its own has nothing to share.
  build(options(storeThread, { file: join(folder, "sqlite-worker.js") })),
  ...lateLibraries.map(({ library, file, exports }) =>
    build(options(library, { file: join(folder, file), format: "cjs", exports })),
  ),
]);
await chmod(join(folder, "outrider.js"), 0o755);
// Wherever the folder is copied to: without it, Node reads every file twice to see what it is.
await writeFile(join(folder, "package.json"), '{ "type": "module" }\n');

// Code that is given as text is run as CommonJS.
const thread = await build({ ...options(storeThread, { format: "cjs" }), write: false });
const daprd = await build({
  ...options("src/outriderd.ts", {}, [inlineWorker(thread.output[0].code)]),
  write: false,
});
// The flag: fewer collections while it starts.
const code = daprd.output[0].code.replace(/^#!.*/, `#!${process.execPath} --min-semi-space-size=4`);
await writeFile(join(folder, "outriderd"), code, { mode: 0o755 });
