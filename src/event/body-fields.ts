import { isPageSize } from "../format/wal.ts";
import { CHUNK_ENTRY_BYTES, CONTENT_ID_BYTES } from "./chunk-list.ts";
import type { EventBody, EventKind } from "./kinds.ts";
import { RecordProblem } from "./record-error.ts";
import { MAX_TIME_MS } from "./record-header.ts";
import { type ByteString, byteString, bytesOf, MAX_PATH_BYTES, pathProblem, shownPath } from "./tree-path.ts";

/**
 * Takes what msgpack or the caller gave, returns the value of the field. @throws RecordProblem without the field's name
 * `wire`: the form in which a value is written, where that is another one.
 */
type FieldRule = ((value: unknown) => unknown) & { readonly wire?: (value: unknown) => unknown };

interface KindFormat {
  /** In the record's header. Never reused. */
  readonly code: number;
  /** Order of the fields in the map. */
  readonly fields: Readonly<Record<string, FieldRule>>;
  /** May be left out. */
  readonly optional?: Readonly<Record<string, FieldRule>>;
  /** What may follow the map. pages: their numbers are in the map, the bytes follow in the same order. data: content; `?`: perhaps none. */
  readonly raw?: "pages" | "data" | "data?";
}

const MAX_TEXT_BYTES = 255;
/** XATTR_SIZE_MAX of Linux. */
const MAX_XATTR_BYTES = 65_536;
const MAX_U64 = (1n << 64n) - 1n;
/** SQLite's largest database has 4,294,967,294 pages. */
export const MAX_PAGE_NUMBER = 0xfffffffe;

const integer =
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

const u32 = integer(0, 0xffffffff);
const safe = integer(0, Number.MAX_SAFE_INTEGER);
const time = integer(0, MAX_TIME_MS);

const u64: FieldRule = (value) => {
  const big = typeof value === "number" && Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof big !== "bigint" || big < 0n || big > MAX_U64) throw new RecordProblem(`${describe(value)} is not a u64`);
  return big;
};

/** Names end up in terminals and file names: 1 to 255 bytes, no control characters. */
const text: FieldRule = (value) => {
  if (typeof value !== "string") throw new RecordProblem(`${describe(value)} is not text`);
  const bytes = Buffer.byteLength(value);
  if (bytes === 0 || bytes > MAX_TEXT_BYTES) {
    throw new RecordProblem(`the text has ${bytes} bytes, allowed are 1 to ${MAX_TEXT_BYTES}`);
  }
  if (/\p{Cc}/u.test(value)) throw new RecordProblem("the text contains a control character");
  if (!value.isWellFormed()) throw new RecordProblem("the text contains half of a surrogate pair");
  return value;
};

const oneOf =
  (...values: readonly string[]): FieldRule =>
  (value) => {
    if (typeof value !== "string" || !values.includes(value)) {
      throw new RecordProblem(`${describe(value)} is not one of ${values.join(", ")}`);
    }
    return value;
  };

/** One character per byte here, binary in the map. */
const byteText = (most: number, problemOf: (given: ByteString) => string | undefined): FieldRule =>
  Object.assign(
    (value: unknown): unknown => {
      const given = value instanceof Uint8Array ? byteString(value) : value;
      if (typeof given !== "string" || given.length > most || /[^\0-\xff]/.test(given)) {
        throw new RecordProblem(`${describe(given)} is not a string of at most ${most} bytes`);
      }
      const problem = problemOf(given);
      if (problem !== undefined)
        throw new RecordProblem(`the path ${JSON.stringify(shownPath(given).slice(0, 80))} ${problem}`);
      return given;
    },
    { wire: (value: unknown) => bytesOf(value as ByteString) },
  );

const path = byteText(MAX_PATH_BYTES, pathProblem);
const linkTarget = byteText(MAX_PATH_BYTES, (given) =>
  given === "" || given.includes("\0") ? "is no link's target" : undefined,
);

const hash: FieldRule = (value) => {
  if (value instanceof Uint8Array && value.length === CONTENT_ID_BYTES) return value;
  throw new RecordProblem(`${describe(value)} is not a hash of ${CONTENT_ID_BYTES} bytes`);
};

const chunks: FieldRule = (value) => {
  if (value instanceof Uint8Array && value.length % CHUNK_ENTRY_BYTES === 0) return value;
  throw new RecordProblem(`${describe(value)} is not a list of chunks`);
};

const i64: FieldRule = (value) => {
  const big = typeof value === "number" && Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof big === "bigint" && BigInt.asIntN(64, big) === big) return big;
  throw new RecordProblem(`${describe(value)} is not an i64`);
};

/** Names and values within the bounds of Linux; a name may hold whatever it likes but NUL, and is not shown as it is. */
const xattrs: FieldRule = (value) => {
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

const metadata = { mode: integer(0, 0o7777), uid: u32, gid: u32, mtimeNs: i64 };

const pageSize: FieldRule = (value) => {
  if (typeof value !== "number" || !isPageSize(value)) throw new RecordProblem(`${describe(value)} is not a page size`);
  return value;
};

const walFields = { salt1: u32, salt2: u32, frame: u32, checksum1: u32, checksum2: u32 };

const wal: FieldRule = (value) => {
  if (typeof value !== "object" || value === null) throw new RecordProblem(`${describe(value)} is not a map`);
  return applyRules(walFields, value instanceof Map ? (name) => value.get(name) : propertyOf(value));
};

export const KIND_FORMATS: Readonly<Record<EventKind, KindFormat>> = {
  genesis: { code: 1, fields: { set: text, logId: text, checksumSeed: u64, createdBy: text } },
  epoch: {
    code: 2,
    fields: {
      epoch: integer(1, 0xffffffff),
      writer: text,
      host: text,
      reason: oneOf("start", "takeover", "promotion"),
    },
  },
  "sqlite.part": { code: 3, raw: "pages", fields: { database: text, transaction: safe, sequence: u32, pageSize } },
  "sqlite.commit": {
    code: 4,
    raw: "pages",
    fields: {
      database: text,
      transaction: safe,
      parts: u32,
      cause: oneOf("commit", "copy", "repair"),
      commits: u32,
      pageSize,
      sizePages: integer(0, MAX_PAGE_NUMBER),
      before: u64,
      after: u64,
      wal,
    },
    optional: { gapSinceMs: time },
  },
  mark: { code: 5, fields: { name: text } },
  heartbeat: { code: 6, fields: { writer: text, host: text } },
  "file.chunk": { code: 7, raw: "data", fields: { id: hash } },
  "file.put": {
    code: 8,
    raw: "data?",
    fields: { tree: text, path, put: safe, parts: u32, size: safe, hash, chunks, ...metadata },
    optional: { xattrs, group: safe },
  },
  "file.part": { code: 9, fields: { tree: text, put: safe, sequence: u32, chunks } },
  "file.remove": { code: 10, fields: { tree: text, path } },
  "dir.put": { code: 11, fields: { tree: text, path, ...metadata }, optional: { xattrs } },
  "dir.remove": { code: 12, fields: { tree: text, path } },
  "link.put": { code: 13, fields: { tree: text, path, target: linkTarget, uid: u32, gid: u32, mtimeNs: i64 } },
};

const KIND_BY_CODE: ReadonlyMap<number, EventKind> = new Map(
  (Object.entries(KIND_FORMATS) as [EventKind, KindFormat][]).map(([kind, format]) => [format.code, kind]),
);

export function kindOfCode(code: number): EventKind | undefined {
  return KIND_BY_CODE.get(code);
}

/** The fields of `kind` without its pages, in the order of the format. Others are left out: a later version may have more. */
export function checkFields(kind: EventKind, get: (name: string) => unknown): Record<string, unknown> {
  const { fields, optional = {} } = KIND_FORMATS[kind];
  const present = Object.entries(optional).filter(([name]) => get(name) !== undefined);
  return { ...applyRules(fields, get), ...applyRules(Object.fromEntries(present), get) };
}

/** The fields as they are written. */
export function wireFields(kind: EventKind, fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { fields: required, optional = {} } = KIND_FORMATS[kind];
  const wired: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    const { wire } = required[name] ?? optional[name] ?? {};
    wired[name] = wire ? wire(value) : value;
  }
  return wired;
}

export function propertyOf(body: EventBody | object): (name: string) => unknown {
  return (name) => (Object.hasOwn(body, name) ? (body as unknown as Record<string, unknown>)[name] : undefined);
}

function applyRules(
  rules: Readonly<Record<string, FieldRule>>,
  get: (name: string) => unknown,
): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [name, rule] of Object.entries(rules)) {
    const value = get(name);
    if (value === undefined) throw new RecordProblem(`field ${name} is missing`);
    try {
      found[name] = rule(value);
    } catch (error) {
      throw error instanceof RecordProblem ? new RecordProblem(`field ${name}: ${error.message}`) : error;
    }
  }
  return found;
}

/** For messages: short, and nothing that a terminal would obey. */
function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
  return typeof value === "number" || typeof value === "bigint" ? String(value) : `a ${typeof value}`;
}
