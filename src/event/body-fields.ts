import { isPageSize } from "../format/wal.ts";
import type { EventBody, EventKind } from "./kinds.ts";
import { RecordProblem } from "./record-error.ts";
import { MAX_TIME_MS } from "./record-header.ts";

/** Takes what msgpack or the caller gave, returns the value of the field. @throws RecordProblem without the field's name */
type FieldRule = (value: unknown) => unknown;

interface KindFormat {
  /** In the record's header. Never reused. */
  readonly code: number;
  /** Order of the fields in the map. */
  readonly fields: Readonly<Record<string, FieldRule>>;
  /** May be left out. */
  readonly optional?: Readonly<Record<string, FieldRule>>;
  /** Page numbers are in the map as `pages`, page bytes behind it in the same order. */
  readonly pages?: true;
}

const MAX_TEXT_BYTES = 255;
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
  "sqlite.part": { code: 3, pages: true, fields: { database: text, transaction: safe, sequence: u32, pageSize } },
  "sqlite.commit": {
    code: 4,
    pages: true,
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
