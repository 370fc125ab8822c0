/** A wait that ends. */

/** The promise, or an error after a time; the reason of the signal when it aborts first. */
export async function within<T>(
  promise: Promise<T>,
  limitMs: number,
  signal: AbortSignal,
  tooLate: () => Error,
): Promise<T> {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    };
    const abort = () => {
      done();
      reject(signal.reason);
    };
    const timer = setTimeout(
      () => {
        done();
        reject(tooLate());
      },
      Math.max(0, limitMs),
    );
    signal.addEventListener("abort", abort, { once: true });
    promise.then(
      (value) => {
        done();
        resolve(value);
      },
      (error: unknown) => {
        done();
        reject(error);
      },
    );
  });
}
