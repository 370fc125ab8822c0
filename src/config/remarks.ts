/** What there is to say about a configuration, and where in it: mistakes, which refuse it, and notes. */

/** A sentence about a place in a file. */
export interface Remark {
  /** The path as it was given, or found in a directory that was given. */
  readonly file: string;
  /** From 1; 0 when the remark is about the file as a whole. */
  readonly line: number;
  /** From 1, in characters; 0 when the remark is about the file as a whole. */
  readonly column: number;
  /** Such as `Component "orders"`; "" when the file has no resource there. */
  readonly resource: string;
  /** Such as `spec.metadata[3].name`; "" for the resource as a whole. */
  readonly field: string;
  /** What is wrong and what was expected, without a capital or a full stop. */
  readonly message: string;
}

/** One line for a terminal: `orders.yaml:12:9  Component "orders" spec.type: is required`. */
export function formatRemark({ file, line, column, resource, field, message }: Remark): string {
  const place = line > 0 ? `${file}:${line}:${column}` : file;
  const subject = [resource, field].filter((part) => part !== "").join(" ");
  return subject === "" ? `${place}  ${message}` : `${place}  ${subject}: ${message}`;
}

/** Everything that is wrong with a configuration. Nothing of it has been opened. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  /** At least one, in the order of the files and of the places in them. */
  readonly mistakes: readonly Remark[];

  constructor(mistakes: readonly Remark[]) {
    super(mistakes.map(formatRemark).join("\n"));
    this.mistakes = mistakes;
  }

  /** The mistakes for a terminal, a line for each, and how many there are. */
  format(): string {
    const count = this.mistakes.length;
    return `${this.message}\n${count} ${count === 1 ? "mistake" : "mistakes"} in the configuration`;
  }
}

/** After so many mistakes the rest are only counted: a file of a wrong kind is wrong everywhere. */
const mostMistakes = 100;

/** After so many notes the rest are left out. */
const mostNotes = 1000;

/** Collects remarks while a configuration is read. */
export class Remarks {
  readonly #tolerant: boolean;
  readonly #mistakes: Remark[] = [];
  readonly #notes: Remark[] = [];
  #leftOut = 0;

  /** `tolerant`: what can be passed over is noted only. */
  constructor(tolerant = false) {
    this.#tolerant = tolerant;
  }

  /** `canBePassedOver`: daprd goes on as if it were not there. */
  mistake(remark: Remark, canBePassedOver = false): void {
    if (this.#tolerant && canBePassedOver) this.note(remark);
    else if (this.#mistakes.length < mostMistakes) this.#mistakes.push(remark);
    else this.#leftOut++;
  }

  note(remark: Remark): void {
    if (this.#notes.length < mostNotes) this.#notes.push(remark);
  }

  /** The notes, in the order of `files` and of the places in them. */
  notes(files: readonly string[]): readonly Remark[] {
    return inOrder(this.#notes, files);
  }

  /** Throws ConfigError when there was a mistake, with the mistakes in the order of `files`. */
  throwIfAny(files: readonly string[]): void {
    if (this.#mistakes.length === 0) return;
    const mistakes = inOrder(this.#mistakes, files);
    if (this.#leftOut > 0) {
      const { file } = mistakes.at(-1)!;
      const message = `${this.#leftOut} more mistakes are not shown`;
      mistakes.push({ file, line: 0, column: 0, resource: "", field: "", message });
    }
    throw new ConfigError(mistakes);
  }
}

/** What is about a file as a whole comes first, as do files that could not be read. */
function inOrder(remarks: readonly Remark[], files: readonly string[]): Remark[] {
  const order = new Map(files.map((file, index) => [file, index]));
  const rank = ({ file }: Remark) => order.get(file) ?? -1;
  return remarks.toSorted((a, b) => rank(a) - rank(b) || a.line - b.line || a.column - b.column);
}
