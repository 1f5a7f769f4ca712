import { isPageSize } from "../format/wal.ts";
import { CHUNK_ENTRY_BYTES, chunkSizes, CONTENT_ID_BYTES } from "./chunk-list.ts";
import type { EventBody } from "./kinds.ts";
import { RecordProblem } from "./record-error.ts";
import { MAX_RAW_BYTES, MAX_TIME_MS } from "./record-header.ts";
import { type ByteString, byteString, bytesOf, MAX_PATH_BYTES, pathProblem, shownPath } from "./tree-path.ts";

/** Takes what msgpack or the caller gave, returns the value of the field. @throws RecordProblem without the field's name */
export type FieldRule = ((value: unknown) => unknown) & { readonly wire?: WireForm };

/** Where a value is written in another form than it has here. */
export interface WireForm {
  readonly write: (value: unknown) => unknown;
  readonly read: (written: unknown) => unknown;
}

const MAX_TEXT_BYTES = 255;
/** XATTR_SIZE_MAX of Linux. */
const MAX_XATTR_BYTES = 65_536;
const MAX_U64 = (1n << 64n) - 1n;
const KEY_ID_BYTES = 16;
/** Of MAX_RECIPIENTS, and be they of the long, post-quantum kind. */
const MAX_AGE_FILE_BYTES = 128 * 1024;
export const MAX_RECIPIENTS = 32;
/** A public key as age writes it. Of which kind is for whoever wraps a key to know. */
export const RECIPIENT = /^age1[a-z0-9]{1,4000}$/;
/** SQLite's largest database has 4,294,967,294 pages. */
export const MAX_PAGE_NUMBER = 0xfffffffe;

export const integer =
  (least: number, most: number): FieldRule =>
  (value) => {
    // Other implementations may write any integer form; ours writes those above u32 as float64.
    const number = typeof value === "bigint" && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
    if (typeof number !== "number" || !Number.isInteger(number) || number < least || number > most) {
      throw new RecordProblem(`${describe(value)} is not an integer from ${least} to ${most}`);
    }
    // Not -0, which is written as 0 and would come back as another value.
    return number === 0 ? 0 : number;
  };

export const u32 = integer(0, 0xffffffff);
export const safe = integer(0, Number.MAX_SAFE_INTEGER);
export const time = integer(0, MAX_TIME_MS);

export const u64: FieldRule = (value) => {
  const big = typeof value === "number" && Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof big !== "bigint" || big < 0n || big > MAX_U64) throw new RecordProblem(`${describe(value)} is not a u64`);
  return big;
};

/** Names end up in terminals and file names: 1 to 255 bytes, no control characters. */
export const text: FieldRule = (value) => {
  if (typeof value !== "string") throw new RecordProblem(`${describe(value)} is not text`);
  const bytes = Buffer.byteLength(value);
  if (bytes === 0 || bytes > MAX_TEXT_BYTES) {
    throw new RecordProblem(`the text has ${bytes} bytes, allowed are 1 to ${MAX_TEXT_BYTES}`);
  }
  if (/\p{Cc}/u.test(value)) throw new RecordProblem("the text contains a control character");
  if (!value.isWellFormed()) throw new RecordProblem("the text contains half of a surrogate pair");
  return value;
};

export const oneOf =
  (...values: readonly string[]): FieldRule =>
  (value) => {
    if (typeof value !== "string" || !values.includes(value)) {
      throw new RecordProblem(`${describe(value)} is not one of ${values.join(", ")}`);
    }
    return value;
  };

/** One character per byte here, binary in the map: as text it would be other bytes. */
const byteTextOnWire: WireForm = {
  write: (value) => bytesOf(value as ByteString),
  read: (written) => {
    if (written instanceof Uint8Array) return byteString(written);
    throw new RecordProblem(`${describe(written)} is not binary`);
  },
};

function byteText(most: number, problemOf: (given: ByteString) => string | undefined): FieldRule {
  const rule = (given: unknown): unknown => {
    if (typeof given !== "string" || given.length > most || /[^\0-\xff]/.test(given))
      throw new RecordProblem(`${describe(given)} is not a string of at most ${most} bytes`);
    const problem = problemOf(given);
    if (problem === undefined) return given;
    throw new RecordProblem(`the path ${JSON.stringify(shownPath(given).slice(0, 80))} ${problem}`);
  };
  return Object.assign(rule, { wire: byteTextOnWire });
}

export const path = byteText(MAX_PATH_BYTES, pathProblem);
export const linkTarget = byteText(MAX_PATH_BYTES, (given) =>
  given === "" || given.includes("\0") ? "is no link's target" : undefined,
);

export const hash: FieldRule = (value) => {
  if (value instanceof Uint8Array && value.length === CONTENT_ID_BYTES) return value;
  throw new RecordProblem(`${describe(value)} is not a hash of ${CONTENT_ID_BYTES} bytes`);
};

const binary =
  (least: number, most: number, what: string): FieldRule =>
  (value) => {
    if (value instanceof Uint8Array && value.length >= least && value.length <= most) return value;
    throw new RecordProblem(`${describe(value)} is no ${what}`);
  };

export const keyId = binary(KEY_ID_BYTES, KEY_ID_BYTES, `id of ${KEY_ID_BYTES} bytes`);
export const ageFile = binary(1, MAX_AGE_FILE_BYTES, `age file of at most ${MAX_AGE_FILE_BYTES} bytes`);

export const recipients: FieldRule = (value) => {
  const isList = Array.isArray(value) && value.length >= 1 && value.length <= MAX_RECIPIENTS;
  if (isList && value.every((one) => typeof one === "string" && RECIPIENT.test(one))) return value;
  throw new RecordProblem(`${describe(value)} is no list of 1 to ${MAX_RECIPIENTS} recipients`);
};

export const chunks: FieldRule = (value) => {
  if (!(value instanceof Uint8Array) || value.length % CHUNK_ENTRY_BYTES !== 0)
    throw new RecordProblem(`${describe(value)} is not a list of chunks`);
  for (const size of chunkSizes(value)) {
    // Whoever reads a chunk makes room for it first.
    if (size < 1 || size > MAX_RAW_BYTES)
      throw new RecordProblem(`a chunk of ${size} bytes; 1 to ${MAX_RAW_BYTES} are possible`);
  }
  return value;
};

export const i64: FieldRule = (value) => {
  const big = typeof value === "number" && Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof big === "bigint" && BigInt.asIntN(64, big) === big) return big;
  throw new RecordProblem(`${describe(value)} is not an i64`);
};

/** Names and values within the bounds of Linux; a name may hold whatever it likes but NUL, and is not shown as it is. */
export const xattrs: FieldRule = (value) => {
  if (!(value instanceof Map)) throw new RecordProblem(`${describe(value)} is not a map`);
  for (const [name, content] of value as Map<unknown, unknown>) {
    const isName = typeof name === "string" && name !== "" && name.isWellFormed() && !name.includes("\0");
    if (!isName || Buffer.byteLength(name) > MAX_TEXT_BYTES)
      throw new RecordProblem(`${describe(name)} is no attribute's name`);
    if (!(content instanceof Uint8Array)) throw new RecordProblem(`${describe(content)} is no attribute's value`);
    if (content.length > MAX_XATTR_BYTES)
      throw new RecordProblem(
        `an attribute's value has ${content.length} bytes, at most ${MAX_XATTR_BYTES} are possible`,
      );
  }
  return value;
};

export const pageSize: FieldRule = (value) => {
  if (typeof value !== "number" || !isPageSize(value)) throw new RecordProblem(`${describe(value)} is not a page size`);
  return value;
};

const walFields = { salt1: u32, salt2: u32, frame: u32, checksum1: u32, checksum2: u32 };

export const wal: FieldRule = (value) => {
  if (typeof value !== "object" || value === null) throw new RecordProblem(`${describe(value)} is not a map`);
  return applyRules(walFields, value instanceof Map ? (name) => value.get(name) : propertyOf(value));
};

export function propertyOf(body: EventBody | object): (name: string) => unknown {
  return (name) => (Object.hasOwn(body, name) ? (body as unknown as Record<string, unknown>)[name] : undefined);
}

export function applyRules(
  rules: Readonly<Record<string, FieldRule>>,
  get: (name: string) => unknown,
): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [name, rule] of Object.entries(rules)) {
    const value = get(name);
    if (value === undefined) throw new RecordProblem(`field ${name} is missing`);
    found[name] = locateField(name, () => rule(value));
  }
  return found;
}

export function locateField<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof RecordProblem ? new RecordProblem(`field ${name}: ${error.message}`) : error;
  }
}

/** For messages: short, and nothing that a terminal would obey. */
function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (value instanceof Uint8Array) return `binary of ${value.length} bytes`;
  if (Array.isArray(value)) return "a list";
  return value instanceof Map ? "a map" : `a ${typeof value}`;
}
