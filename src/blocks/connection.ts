/** A component's driver as its block sees it: it may not be there yet. */
export interface Connection<Driver> {
  /** The component's name. */
  readonly component: string;
  /** Such as "state.redis"; known before it is open. */
  readonly type: string;
  /** The driver. Throws the fault COMPONENT_UNAVAILABLE, with RetryInfo, while it is not open. */
  current(): Driver;
  /** Waits for the driver. Throws the fault COMPONENT_UNAVAILABLE when the signal aborts first. */
  ready(signal: AbortSignal): Promise<Driver>;
}
