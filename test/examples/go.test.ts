/** The client in Go, made from proto/ with buf and the plugins in go.mod. */
import { describe, it } from "vitest";
import { Checkout, missing, shell } from "./checkout.ts";
import { expectSales } from "./clients.ts";

// What the compiler has not compiled before takes it a minute on a small machine.
describe("the example in Go", { timeout: 300_000 }, () => {
  it("publishes, settles what it gets on its stream, and counts with etags, as its README says", async ({
    skip,
  }) => {
    await using checkout = await Checkout.make();
    const reason = await missing("go", () => shell("go mod download", checkout.example("go")));
    if (reason !== undefined) skip(reason);
    await expectSales(checkout, "go", await checkout.commands("go"));
  });
});
