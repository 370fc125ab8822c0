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

/**
 * The same connection, to what `wrap` makes of a driver, once for each driver; to the driver itself whenever
 * `wanted` says no.
 */
export function throughWrapper<Driver>(
  connection: Connection<Driver>,
  wrap: (driver: Driver) => Driver,
  wanted: () => boolean = () => true,
): Connection<Driver> {
  let last: { readonly driver: Driver; readonly wrapper: Driver } | undefined;
  const wrapped = (driver: Driver): Driver => {
    if (!wanted()) return driver;
    if (last?.driver !== driver) last = { driver, wrapper: wrap(driver) };
    return last.wrapper;
  };
  return {
    component: connection.component,
    type: connection.type,
    current: () => wrapped(connection.current()),
    ready: async (signal) => wrapped(await connection.ready(signal)),
  };
}
