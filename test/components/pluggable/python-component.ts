/** The component in component.py as a process. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { describe, it } from "vitest";
import { missing } from "../../examples/checkout.ts";

const project = resolve(import.meta.dirname, "../../..");
const run = promisify(execFile);
/** Has grpcio and grpcio-tools. */
const python = process.env["OUTRIDER_TEST_PYTHON"] ?? "python3";

/** A folder of sockets with a component in it, that can be killed and started again. */
export class PythonComponent {
  /** For DAPR_COMPONENTS_SOCKETS_FOLDER. */
  readonly folder: string;
  readonly #directory: string;
  readonly #name: string;
  #process: ChildProcess | undefined;
  #said = "";

  private constructor(directory: string, name: string) {
    this.#directory = directory;
    this.#name = name;
    this.folder = join(directory, "sockets");
  }

  /** Nothing runs yet. `name` is that of the socket. */
  static async make(name = "python"): Promise<PythonComponent> {
    const directory = await mkdtemp(join(tmpdir(), "outrider-pluggable-"));
    const component = new PythonComponent(directory, name);
    await mkdir(component.folder);
    await component.#generate();
    return component;
  }

  /** Resolves when it serves. */
  async start(): Promise<void> {
    const script = join(import.meta.dirname, "component.py");
    const socket = join(this.folder, `${this.#name}.sock`);
    const data = join(this.#directory, "data.db");
    const started = spawn(python, [script, socket, data, this.#modules], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = started;
    const serving = Promise.withResolvers<void>();
    started.stdout.on("data", () => serving.resolve());
    started.stderr.on("data", (text: Buffer) => {
      this.#said += text;
    });
    started.once("exit", () => serving.reject(new Error(`the component has ended: ${this.#said}`)));
    await serving.promise;
  }

  /** Ends the process at once; its socket file stays. Resolves when it is gone. */
  async kill(): Promise<void> {
    const killed = this.#process;
    this.#process = undefined;
    if (!killed || killed.exitCode !== null || killed.signalCode !== null) return;
    killed.kill("SIGKILL");
    await once(killed, "exit");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }

  get #modules(): string {
    return join(this.#directory, "modules");
  }

  /** Makes Python of the contracts. */
  async #generate(): Promise<void> {
    const into = this.#modules;
    await mkdir(into);
    const protoc = async (root: string, ...files: string[]) => {
      const from = join(project, "proto", root);
      const to = [`--python_out=${into}`, `--grpc_python_out=${into}`];
      await run(python, [
        "-m",
        "grpc_tools.protoc",
        "-I",
        from,
        ...to,
        ...files.map((file) => join(from, file)),
      ]);
    };
    const components = await readdir(join(project, "proto/dapr/proto/components/v1"));
    const own = components.map((file) => `dapr/proto/components/v1/${file}`);
    await protoc("", ...own, "google/rpc/status.proto", "google/rpc/error_details.proto");
    // In a folder called grpc it would hide the library of that name.
    await protoc("grpc/reflection/v1alpha", "reflection.proto");
    // Dapr's own package has the same name: this one goes first.
    for (const folder of ["dapr", "dapr/proto", "dapr/proto/components", "dapr/proto/components/v1"])
      await writeFile(join(into, folder, "__init__.py"), "");
  }
}

/** A `describe` of tests that need Python with grpcio. */
export async function describeWithPython(title: string, body: () => void): Promise<void> {
  const reason = await missing("python", () => run(python, ["-c", "import grpc_tools, grpc"]));
  if (reason === undefined) describe(title, body);
  else describe(title, () => it("runs where Python has grpcio", ({ skip }) => skip(reason)));
}
