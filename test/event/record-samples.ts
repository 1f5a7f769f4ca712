import * as fc from "fast-check";
import { encodeRecord, NO_PREVIOUS_HASH, type RecordFields } from "../../src/event/codec.ts";
import { encodeChunks } from "../../src/event/chunk-list.ts";
import type { EventBody, FilePut, SqliteCommit } from "../../src/event/kinds.ts";
import { packMap } from "../../src/event/message-pack.ts";
import { epoch, offset } from "../../src/event/positions.ts";
import {
  encodeRecordHeader,
  MAX_TIME_MS,
  RECORD_HEADER_BYTES,
  type RecordHeader,
} from "../../src/event/record-header.ts";
import { byteString, type TreePath } from "../../src/event/tree-path.ts";
import { hasCode } from "../../src/runtime/errors.ts";

export function recordFields(body: RecordFields["body"]): RecordFields {
  return { offset: offset(7), epoch: epoch(3), timeMs: 1_767_225_600_000, previousHash: NO_PREVIOUS_HASH, body };
}

export function commit(fields: Partial<SqliteCommit> = {}): SqliteCommit {
  return {
    kind: "sqlite.commit",
    database: "app.db",
    transaction: 12,
    parts: 0,
    cause: "commit",
    commits: 1,
    pageSize: 512,
    sizePages: 9,
    before: 1n,
    after: 2n,
    wal: { salt1: 1, salt2: 2, frame: 3, checksum1: 4, checksum2: 5 },
    pages: [],
    ...fields,
  };
}

/** Of a file of 300,000 bytes in two chunks. */
export function filePut(fields: Partial<FilePut> = {}): FilePut {
  const chunk = (byte: number, size: number) => ({ id: byteString(Buffer.alloc(32, byte)), size });
  return {
    kind: "file.put",
    tree: "uploads",
    path: "a/b" as TreePath,
    put: 4,
    parts: 0,
    size: 300_000,
    hash: Buffer.alloc(32, 9),
    chunks: encodeChunks([chunk(1, 200_000), chunk(2, 100_000)]),
    mode: 0o644,
    uid: 1000,
    gid: 1000,
    mtimeNs: 1_767_225_600_123_456_789n,
    ...fields,
  };
}

export interface Forgery extends Partial<Omit<RecordHeader, "storedBytes">> {
  /** The map: fields, or bytes as they are. */
  readonly map?: Readonly<Record<string, unknown>> | Uint8Array;
  /** Behind the map. */
  readonly tail?: Uint8Array;
  /** Instead of map and tail, as it is. */
  readonly stored?: Uint8Array;
}

/** A record with whatever is asked for and a right checksum: what a checksum does not keep from the decoder. */
export function forge(forgery: Forgery): Uint8Array {
  const { map = { name: "x" }, tail = new Uint8Array(0), ...header } = forgery;
  const packed = map instanceof Uint8Array ? map : packMap(map);
  const stored = forgery.stored ?? Buffer.concat([packed, tail]);
  const record = new Uint8Array(RECORD_HEADER_BYTES + stored.length);
  record.set(stored, RECORD_HEADER_BYTES);
  encodeRecordHeader(record, {
    kind: 5,
    flags: 0,
    epoch: epoch(1),
    offset: offset(7),
    timeMs: 1000,
    previousHash: NO_PREVIOUS_HASH,
    mapBytes: packed.length,
    rawBytes: packed.length + tail.length,
    ...header,
    storedBytes: stored.length,
  });
  return record;
}

/** The code of what `work` throws, "none" if nothing; anything but a record's error is a fault and passes through. */
export function codeOf(work: () => unknown): string {
  try {
    work();
    return "none";
  } catch (error) {
    if (hasCode(error, "RECORD_INVALID", "RECORD_VERSION", "RECORD_TOO_LARGE")) return error.code;
    throw error;
  }
}

export function messageOf(work: () => unknown): string {
  try {
    work();
    return "no error";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const u32 = fc.nat({ max: 0xffffffff });
const safe = fc.maxSafeNat();
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const text = fc
  .string({ unit: "grapheme", minLength: 1, maxLength: 60 })
  .filter((value) => !/\p{Cc}/u.test(value) && Buffer.byteLength(value) <= 255);
const pageNumber = fc.integer({ min: 1, max: 0xfffffffe });

/** Pages that compress well, and pages that do not. */
function pagesOf(pageSize: number): fc.Arbitrary<{ pageNumber: number; data: Uint8Array }[]> {
  const seed = fc.uint8Array({ minLength: 1, maxLength: pageSize });
  const data = seed.map((bytes) => new Uint8Array(Buffer.alloc(pageSize, bytes)));
  return fc.array(fc.record({ pageNumber, data }), { maxLength: pageSize > 4096 ? 2 : 5 });
}

const withPages = fc
  .constantFrom(512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
  .chain((pageSize) => fc.record({ pageSize: fc.constant(pageSize), pages: pagesOf(pageSize) }));

const sqlitePart = fc
  .tuple(fc.record({ database: text, transaction: safe, sequence: u32 }), withPages)
  .map(([fields, pages]): EventBody => ({ kind: "sqlite.part", ...fields, ...pages }));

const commitFields = fc.record(
  {
    database: text,
    transaction: safe,
    parts: u32,
    cause: fc.constantFrom("commit" as const, "copy" as const, "repair" as const),
    commits: u32,
    sizePages: fc.nat({ max: 0xfffffffe }),
    before: u64,
    after: u64,
    wal: fc.record({ salt1: u32, salt2: u32, frame: u32, checksum1: u32, checksum2: u32 }),
    gapSinceMs: fc.nat({ max: MAX_TIME_MS }),
  },
  {
    requiredKeys: ["database", "transaction", "parts", "cause", "commits", "sizePages", "before", "after", "wal"],
  },
);
const sqliteCommit = fc
  .tuple(commitFields, withPages)
  .map(([fields, pages]) => ({ kind: "sqlite.commit" as const, ...fields, ...pages }));

const i64 = fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n });
const hash = fc.uint8Array({ minLength: 32, maxLength: 32 });
const name = fc
  .uint8Array({ minLength: 1, maxLength: 40 })
  .map((bytes) => byteString(bytes).replaceAll(/[\0/]/g, "x"))
  .filter((part) => part !== "." && part !== "..");
const place = fc.record({
  tree: text,
  path: fc.array(name, { maxLength: 5 }).map((parts) => parts.join("/") as TreePath),
});
const chunkList = fc
  .array(fc.record({ id: hash.map(byteString), size: fc.integer({ min: 1, max: 16 * 1024 * 1024 }) }), { maxLength: 9 })
  .map(encodeChunks);
const attributeName = fc
  .string({ unit: "binary", minLength: 1, maxLength: 60 })
  .filter((given) => given.isWellFormed() && !given.includes("\0"));
const xattrs = fc
  .array(fc.tuple(attributeName, fc.uint8Array({ maxLength: 300 })), { maxLength: 4 })
  .map((entries) => new Map(entries));
const owner = { uid: u32, gid: u32, mtimeNs: i64 };
const metadata = fc.record(
  { mode: fc.nat({ max: 0o7777 }), ...owner, xattrs },
  { requiredKeys: ["mode", "uid", "gid", "mtimeNs"] },
);
/** Content that compresses well, and some that does not. */
const content = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 3000 }),
  fc.nat({ max: 60_000 }).map((size) => new Uint8Array(size + 1)),
);

const chunkedPut = fc
  .tuple(
    place,
    metadata,
    fc.record(
      { put: safe, parts: u32, size: safe, hash, chunks: chunkList, group: safe },
      { requiredKeys: ["put", "parts", "size", "hash", "chunks"] },
    ),
  )
  .map(([where, owned, fields]): EventBody => ({ kind: "file.put", ...where, ...fields, ...owned }));
const inlinePut = fc.tuple(place, metadata, safe, hash, content).map(([where, owned, put, id, data]): EventBody => {
  const chunks = encodeChunks([{ id: byteString(id), size: data.length }]);
  return { kind: "file.put", ...where, put, parts: 0, size: data.length, hash: id, chunks, ...owned, data };
});
const treeBody: fc.Arbitrary<EventBody> = fc.oneof(
  fc.record({ kind: fc.constant("file.chunk" as const), id: hash, data: content }),
  chunkedPut,
  inlinePut,
  fc.record({ kind: fc.constant("file.part" as const), tree: text, put: safe, sequence: u32, chunks: chunkList }),
  fc
    .tuple(fc.constantFrom("file.remove" as const, "dir.remove" as const), place)
    .map(([kind, where]) => ({ kind, ...where })),
  fc.tuple(place, metadata).map(([where, owned]) => ({ kind: "dir.put" as const, ...where, ...owned })),
  fc
    .tuple(place, name, fc.record(owner))
    .map(([where, target, owned]) => ({ kind: "link.put" as const, ...where, target, ...owned })),
);

const anyEpoch = fc.integer({ min: 1, max: 0xffffffff }).map(epoch);
const reason = fc.constantFrom(
  "start" as const,
  "takeover" as const,
  "promotion" as const,
  "switchover" as const,
  "new-log" as const,
);
export const anyBody: fc.Arbitrary<EventBody> = fc.oneof(
  fc.record({ kind: fc.constant("genesis" as const), set: text, logId: text, checksumSeed: u64, createdBy: text }),
  fc.record({ kind: fc.constant("epoch" as const), epoch: anyEpoch, writer: text, host: text, reason }),
  { weight: 2, arbitrary: sqlitePart },
  { weight: 3, arbitrary: sqliteCommit },
  fc.record({ kind: fc.constant("mark" as const), name: text }),
  fc.record(
    {
      kind: fc.constant("heartbeat" as const),
      writer: text,
      host: text,
      asks: fc.constant("position" as const),
      successor: text,
    },
    { requiredKeys: ["kind", "writer", "host"] },
  ),
  { weight: 7, arbitrary: treeBody },
);

/** Any record that the format allows. */
export const anyFields: fc.Arbitrary<RecordFields> = fc
  .record({
    offset: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }).map(offset),
    epoch: anyEpoch,
    timeMs: fc.nat({ max: MAX_TIME_MS }),
    previousHash: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    consistent: fc.boolean(),
    body: anyBody,
  })
  .map((fields) => (fields.body.kind === "epoch" ? { ...fields, epoch: fields.body.epoch } : fields));

export const anyRecord: fc.Arbitrary<Uint8Array> = anyFields.map(encodeRecord);
