/** Waiting for something outside that tells nobody when it is there. */

const lookEveryMs = 20;

/** Looks until there is something. Throws what `look` threw last, or what was awaited, when the time is over. */
export async function until<T>(
  look: () => T | Promise<T>,
  what: string,
  withinMs: number,
): Promise<NonNullable<Awaited<T>>> {
  const endsAt = performance.now() + withinMs;
  let cause: unknown;
  for (;;) {
    try {
      const found = await look();
      if (found) return found as NonNullable<Awaited<T>>;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > endsAt) throw new Error(`waited ${withinMs} ms in vain: ${what}`, { cause });
    await new Promise((again) => setTimeout(again, lookEveryMs));
  }
}
