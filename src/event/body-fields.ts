import {
  applyRules,
  chunks,
  type FieldRule,
  ageFile,
  hash,
  i64,
  keyId,
  recipients,
  integer,
  linkTarget,
  locateField,
  MAX_PAGE_NUMBER,
  oneOf,
  pageSize,
  path,
  safe,
  text,
  time,
  u32,
  u64,
  wal,
  type WireForm,
  xattrs,
} from "./field-rules.ts";
import type { EventKind } from "./kinds.ts";

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

const metadata = { mode: integer(0, 0o7777), uid: u32, gid: u32, mtimeNs: i64 };

export const KIND_FORMATS: Readonly<Record<EventKind, KindFormat>> = {
  genesis: { code: 1, fields: { set: text, logId: text, checksumSeed: u64, createdBy: text } },
  epoch: {
    code: 2,
    fields: {
      epoch: integer(1, 0xffffffff),
      writer: text,
      host: text,
      reason: oneOf("start", "takeover", "promotion", "switchover", "new-log"),
    },
    optional: { contains: safe },
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
  heartbeat: {
    code: 6,
    fields: { writer: text, host: text },
    optional: { asks: oneOf("position"), successor: text },
  },
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
  key: { code: 14, fields: { id: keyId, wrapped: ageFile, recipients } },
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
  const wired = Object.entries(fields).map(([name, value]) => [name, wireOf(kind, name)?.write(value) ?? value]);
  return Object.fromEntries(wired) as Record<string, unknown>;
}

/** @throws RecordProblem when a field is not written in its one form */
export function readFields(kind: EventKind, written: ReadonlyMap<string, unknown>): Record<string, unknown> {
  return checkFields(kind, (name) => {
    const value = written.get(name);
    const wire = value === undefined ? undefined : wireOf(kind, name);
    return wire ? locateField(name, () => wire.read(value)) : value;
  });
}

function wireOf(kind: EventKind, name: string): WireForm | undefined {
  const { fields, optional } = KIND_FORMATS[kind];
  return (fields[name] ?? optional?.[name])?.wire;
}
