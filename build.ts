/**
 * Bundles `dist/`, for the package and the image: `node build.ts`, or another folder: `node build.ts <folder>`.
 *
 * What is imported lazily stays in files of its own, which are not read before they are needed. `outriderd` is
 * one file, to be put wherever a daprd was: it names its interpreter by its path, and needs nothing else.
 */
import { chmod, rm, writeFile } from "node:fs/promises";
import { relative } from "node:path";
import { type BuildOptions, build, type Plugin } from "esbuild";

const folder = process.argv[2] ?? "dist";

/**
 * An import of a module of Node reads every property that it exports, also
 * those that load half of Node when they are read: `WebSocket` of node:http is
 * one. Here only what is used is read, and once. This saves
 * some 80 ms and 10 MB at the start. Each importer has a copy of its own, of a few lines:
 * shared, each would be a file to be found and read.
 */
const leanBuiltins: Plugin = {
  name: "lean-builtins",
  setup({ onLoad, onResolve }) {
    const namespace = "builtin";
    onResolve({ filter: /^node:/ }, ({ importer, kind, path }) => {
      if (kind !== "import-statement") return undefined;
      return { path, suffix: `?${relative(".", importer)}`, namespace, sideEffects: false };
    });
    onLoad({ filter: /.*/, namespace }, ({ path }) => {
      const names = Object.keys(process.getBuiltinModule(path) as object).filter(
        (name) => name !== "default",
      );
      const named = names.map((name) => `export const ${name} = /* @__PURE__ */ (() => $module.${name})();`);
      const contents = `const $module = /* @__PURE__ */ process.getBuiltinModule(${JSON.stringify(path)});
        export default $module;
        ${named.join("\n")}`;
      return { contents, loader: "js" };
    });
  },
};

/** Libraries that most sidecars never use, but where they are used it is without waiting: each is a file of its own. */
const seldomUsed = ["@marcbachmann/cel-js"];

/** Reads a library that is seldom used when something of it is used first. For CEL, this saves some 20 ms at the start. */
const lazyLibraries: Plugin = {
  name: "lazy-libraries",
  setup({ onLoad, onResolve }) {
    const namespace = "library";
    onResolve({ filter: /^@/ }, ({ path }) => {
      return seldomUsed.includes(path) ? { path, namespace, sideEffects: false } : undefined;
    });
    onLoad({ filter: /.*/, namespace }, async ({ path }) => {
      const file = JSON.stringify(`./${fileOf(path)}.cjs`);
      const names = Object.keys((await import(path)) as object).filter((name) => name !== "default");
      const getters = names.map((name) => `get ${name}() { return require(${file}).${name}; }`);
      return { contents: `module.exports = { ${getters.join(", ")} };`, loader: "js" };
    });
    // Written beside what asks for it.
    onResolve({ filter: /^\.\/.*\.cjs$/, namespace }, ({ path }) => ({ path, external: true }));
  },
};

function fileOf(library: string): string {
  return library.replace(/^.*\//, "");
}

/** grpc-js has it for a debugging service that is off; with it come a second protobuf library and two more. */
const withoutProtoLoader: Plugin = {
  name: "without-proto-loader",
  setup({ onLoad, onResolve }) {
    const namespace = "absent";
    onResolve({ filter: /^@grpc\/proto-loader$/ }, ({ path }) => ({ path, namespace }));
    onLoad({ filter: /.*/, namespace }, ({ path }) => {
      return {
        contents: `throw new Error(${JSON.stringify(`${path} is not part of this bundle`)});`,
        loader: "js",
      };
    });
  },
};

/** The code of the store's thread, in a bundle that has no file beside it. */
const inlineWorker: Plugin = {
  name: "inline-worker",
  setup({ onLoad }) {
    onLoad({ filter: /\/sqlite\/start-worker\.ts$/ }, async () => {
      // Code that is given as text is run as CommonJS.
      const { banner, ...common } = options;
      const entryPoints = ["src/components/sqlite/worker.ts"];
      const built = await build({
        ...common,
        entryPoints,
        format: "cjs",
        legalComments: "none",
        write: false,
      });
      const contents = `import { Worker } from "node:worker_threads";
        const code = ${JSON.stringify(built.outputFiles[0]!.text)};
        export const startWorker = (options) => new Worker(code, { ...options, eval: true });`;
      return { contents, loader: "js" };
    });
  },
};

const options: BuildOptions = {
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  outdir: folder,
  // Not identifiers: names are what a stack trace has to offer.
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "linked",
  logLevel: "warning",
  plugins: [leanBuiltins, withoutProtoLoader],
  // Libraries in CommonJS ask for Node's modules by `require`.
  banner: {
    js: 'const require = process.getBuiltinModule("node:module").createRequire(import.meta.url);',
  },
};

await rm(folder, { recursive: true, force: true });
await Promise.all([
  build({
    ...options,
    plugins: [...options.plugins!, lazyLibraries],
    entryPoints: { outrider: "src/main.ts" },
    splitting: true,
    // Beside the entry, so that what finds a file by its own address finds it there.
    chunkNames: "[name]-[hash]",
  }),
  // A thread of its own has nothing to share.
  build({ ...options, entryPoints: { "sqlite-worker": "src/components/sqlite/worker.ts" } }),
  ...seldomUsed.map((library) => {
    const { banner, ...common } = options;
    const outExtension = { ".js": ".cjs" };
    return build({ ...common, format: "cjs", outExtension, entryPoints: { [fileOf(library)]: library } });
  }),
]);
await chmod(`${folder}/outrider.js`, 0o755);
// Wherever the folder is copied to: without it, Node reads every file twice to see what it is.
await writeFile(`${folder}/package.json`, '{ "type": "module" }\n');

const { outputFiles } = await build({
  ...options,
  plugins: [...options.plugins!, inlineWorker],
  entryPoints: { outriderd: "src/outriderd.ts" },
  legalComments: "none",
  write: false,
});
const code = outputFiles.find(({ path }) => path.endsWith("outriderd.js"))!.text;
await writeFile(`${folder}/outriderd`, code.replace(/^#!.*/, `#!${process.execPath}`), { mode: 0o755 });
