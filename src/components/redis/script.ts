/** Lua that Redis runs: what is written in one script happens at once, or not at all. */
import { createHash } from "node:crypto";

/** A script, known to the server by its hash. */
export class Script {
  readonly lua: string;
  readonly hash: string;

  constructor(lua: string) {
    this.lua = lua;
    this.hash = createHash("sha1").update(lua).digest("hex");
  }
}
