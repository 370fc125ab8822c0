/** Times as messages have them. */
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";

/** Makes timestamps; those who ask one after the other mostly ask for the same, and share one. */
export class Timestamps {
  #ms = 0;
  #last = timestampFromMs(0);

  /** The timestamp of a time, in milliseconds since 1970. It is shared: not to be changed. */
  of(ms: number): Timestamp {
    if (this.#ms !== ms) {
      this.#ms = ms;
      this.#last = timestampFromMs(ms);
    }
    return this.#last;
  }
}
