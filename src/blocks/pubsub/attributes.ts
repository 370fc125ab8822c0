/** What CloudEvents asks of attributes, and the limits that every broker can keep. */
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Violation } from "../../faults.ts";
import { hasText } from "./timestamps.ts";

/** The longest value of an attribute, in bytes of UTF-8. */
const maxAttributeBytes = 1024;
/** The longest value of an extension, in bytes of UTF-8: `baggage` may have 8,192. */
const maxExtensionBytes = 8192;
/** Extensions of one event. */
const maxExtensions = 64;

/** Names that an extension must not have: the attributes of the specification, and the members of a document that hold data. */
export const takenNames: ReadonlySet<string> = new Set([
  "id",
  "source",
  "specversion",
  "type",
  "subject",
  "time",
  "datacontenttype",
  "dataschema",
  "data",
  "data_base64",
]);

/** Whether an extension may have this name: 1 to 20 lower-case letters and digits, not the name of an attribute. */
export function isExtensionName(name: string): boolean {
  return /^[a-z0-9]{1,20}$/.test(name) && !takenNames.has(name);
}

/** Whether an extension of somebody else's event can have this name: the specification only says what it should be. */
export function isReadableName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(name) && !takenNames.has(name);
}

/**
 * What is wrong with the attributes of a complete event; `path` is where it is in the request.
 * `mayHaveName` says which names an extension may have.
 */
export function eventViolations(event: Event, path: string, mayHaveName = isExtensionName): Violation[] {
  const violations: Violation[] = [];
  const check = (field: string, value: string, required: boolean): void => {
    const description = attributeViolation(value, required);
    if (description !== undefined) violations.push({ field: `${path}.${field}`, description });
  };
  check("id", event.id, true);
  check("source", event.source, true);
  check("type", event.type, true);
  check("subject", event.subject, false);
  check("data_content_type", event.dataContentType, false);
  check("data_schema", event.dataSchema, false);
  if (event.time && !hasText(event.time)) {
    violations.push({ field: `${path}.time`, description: "must be a time of the years 1 to 9999" });
  }
  let count = 0;
  for (const name in event.extensions) {
    count += 1;
    if (!mayHaveName(name)) {
      const description = "must have names of 1 to 20 lower-case letters and digits which no attribute has";
      violations.push({ field: `${path}.extensions[${JSON.stringify(name.slice(0, 40))}]`, description });
    } else if (tooLong(event.extensions[name]!, maxExtensionBytes)) {
      violations.push({
        field: `${path}.extensions["${name}"]`,
        description: `must have at most ${maxExtensionBytes} bytes`,
      });
    }
  }
  if (count > maxExtensions) {
    violations.push({
      field: `${path}.extensions`,
      description: `must have at most ${maxExtensions} entries`,
    });
  }
  return violations;
}

function attributeViolation(value: string, required: boolean): string | undefined {
  if (value === "") return required ? "must not be empty" : undefined;
  if (tooLong(value, maxAttributeBytes)) return `must have at most ${maxAttributeBytes} bytes`;
  if (!/^[ -~]*$/.test(value) && /[\p{Cc}\p{Cs}]/u.test(value))
    return "must not have control characters or lone surrogates";
  return undefined;
}

/** Counts bytes only where characters do not decide: a character has one to three of them in UTF-8. */
function tooLong(value: string, maxBytes: number): boolean {
  if (value.length > maxBytes) return true;
  return value.length * 3 > maxBytes && Buffer.byteLength(value) > maxBytes;
}
