/** Whether a media type promises JSON. CloudEvents means JSON where there is none. */
export function isJsonType(mediaType: string): boolean {
  if (mediaType === "" || mediaType === "application/json") return true;
  return /^[^;]*[/+]json\s*(;|$)/i.test(mediaType);
}

/** Whether a media type promises text. */
export function isTextType(mediaType: string): boolean {
  return /^text\//i.test(mediaType);
}
