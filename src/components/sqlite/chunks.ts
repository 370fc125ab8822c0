/** Bytes of every chunk of a value but the last: what a reader gets at once. */
export const chunkBytes = 256 * 1024;
