/** Where the SDKs are: .ci/languages.sh puts each into a folder that is named after what pins its version. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { toolsFolder } from "../../../servers/tools.ts";

/** The files that pin them. */
const pins = {
  python: "requirements.txt",
  javascript: "package-lock.json",
  java: "pom.xml",
} as const;

/** The folder of an SDK. Throws when it is not there. */
export function sdkFolder(language: keyof typeof pins): string {
  const pinned = readFileSync(join(import.meta.dirname, language, pins[language]));
  const version = createHash("sha256").update(pinned).digest("hex").slice(0, 12);
  const folder = join(toolsFolder(), `dapr-sdk-${language}-${version}`);
  if (!existsSync(folder))
    throw new Error(`Dapr's SDK for ${language} is not there: .ci/languages.sh installs it`);
  return folder;
}
