/** Who receives events, in whichever way. */

/** See the head of this file. */
export interface Receiver {
  /** Events that have come so far. */
  readonly received: number;
  /** Called when events have come. */
  onReceived: () => void;
  /** Called when no more will come. */
  onEnd: () => void;
  /** Takes no more. */
  close(): void;
}
