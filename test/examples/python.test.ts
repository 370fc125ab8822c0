/** The client in Python, made from proto/ with grpcio-tools. */
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Checkout, missing, shell } from "./checkout.ts";
import { expectSales } from "./clients.ts";

/** Has the packages of examples/python/requirements.txt. */
const python = process.env["OUTRIDER_TEST_PYTHON"] ?? "python3";

describe("the example in Python", { timeout: 120_000 }, () => {
  it("publishes, settles what it gets on its stream, and counts with etags, as its README says", async ({
    skip,
  }) => {
    await using checkout = await Checkout.make();
    const reason = await missing("python", () =>
      shell(`'${python}' -c 'import grpc_tools, grpc'`, checkout.directory),
    );
    if (reason !== undefined) skip(reason);
    const [install, ...commands] = await checkout.commands("python");
    // .ci/languages.sh has done that already, once for all runs.
    expect(install).toContain("pip install --quiet -r requirements.txt");
    const bin = join(checkout.example("python"), ".venv", "bin");
    await mkdir(bin, { recursive: true });
    await writeFile(join(bin, "python"), `#!/bin/sh\nexec '${python}' "$@"\n`);
    await chmod(join(bin, "python"), 0o755);
    await expectSales(checkout, "python", commands);
  });
});
