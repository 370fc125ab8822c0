/** Where keys are in a cluster, and how to put one beside another. */

const slotCount = 16_384;

/** The slot of a key, as Redis counts it: of what is in the first braces, or of all of it. */
export function slotOf(key: string | Uint8Array): number {
  const bytes = typeof key === "string" ? Buffer.from(key) : key;
  const open = bytes.indexOf(123);
  if (open >= 0) {
    const close = bytes.indexOf(125, open + 1);
    if (close > open + 1) return crc16(bytes.subarray(open + 1, close)) % slotCount;
  }
  return crc16(bytes) % slotCount;
}

/**
 * What to put in braces so that a key is in the same slot as this one: the key itself, or the part of it that is in
 * braces. A key whose braces are in the way gets a number that happens to be in its slot.
 */
export function slotTag(key: string): string {
  const inBraces = /\{([^}]+)\}/.exec(key);
  const tag = inBraces && key.indexOf("{") === inBraces.index ? inBraces[1]! : key;
  if (tag !== "" && !tag.includes("}") && slotOf(`{${tag}}`) === slotOf(key)) return tag;
  const wanted = slotOf(key);
  for (let number = 0; ; number++) if (slotOf(String(number)) === wanted) return String(number);
}

/** CRC16/XMODEM. */
function crc16(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++)
      crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
  }
  return crc;
}
