import { zstdCompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { decodeRecord, decodeRecordHeader, encodeRecord } from "../../src/event/codec.ts";
import { epoch, offset } from "../../src/event/positions.ts";
import { packMap } from "../../src/event/message-pack.ts";
import { writeRecordChecksum } from "../../src/event/record-header.ts";
import { codeOf, commit, filePut, forge, type Forgery, messageOf, recordFields } from "./record-samples.ts";

const MIB = 1024 * 1024;

/** A one-field map with the value as it is given. */
function mark(...value: number[]): Forgery {
  return { map: Buffer.from([0x81, 0xa4, ...Buffer.from("name"), ...value]) };
}

function commitMap(fields: Record<string, unknown>): Forgery {
  const { kind: _, ...rest } = commit();
  return { kind: 4, map: packMap({ ...rest, pages: [], ...fields }).slice() };
}

const HASH = Buffer.alloc(32, 7);

/** As the writer would, but for the fields that are given. */
function putMap(fields: Record<string, unknown> = {}): Forgery {
  const { kind: _, path: at, ...rest } = filePut();
  return { kind: 8, map: packMap({ ...rest, path: Buffer.from(at), ...fields }).slice() };
}

/** With content in the record. */
function inlineMap(fields: Record<string, unknown> = {}): Forgery {
  const chunks = Buffer.concat([HASH, Buffer.from([0, 0, 0, 5])]);
  return { ...putMap({ hash: HASH, size: 5, chunks, ...fields }), tail: Buffer.from("hello") };
}

const pathMap = (bytes: string | Buffer): Forgery => ({
  kind: 10,
  map: packMap({ tree: "uploads", path: Buffer.from(bytes) }).slice(),
});

const linkMap = (target: unknown): Forgery => {
  const fields = { tree: "uploads", path: Buffer.from("l"), target, uid: 0, gid: 0, mtimeNs: 0 };
  return { kind: 13, map: packMap(fields).slice() };
};

const chunksOf = (size: number): Buffer => {
  const entry = Buffer.concat([HASH, Buffer.alloc(4)]);
  entry.writeUInt32BE(size, 32);
  return entry;
};

const xattrs = (name: string, value: unknown): Forgery => putMap({ xattrs: new Map([[name, value]]) });

/** A zstd frame of one raw block that asks for a window of 2^windowLog bytes. */
function frameWithWindow(content: Uint8Array, windowLog: number): Uint8Array {
  const blockHeader = (content.length << 3) | 1;
  const header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (windowLog - 10) << 3];
  return Buffer.concat([Buffer.from([...header, blockHeader & 0xff, blockHeader >> 8, 0]), content]);
}

test("what the forger makes is otherwise a valid record", () => {
  expect(decodeRecord(forge({})).body).toEqual({ kind: "mark", name: "x" });
  expect(decodeRecord(forge(commitMap({}))).body).toEqual(commit());
  expect(decodeRecord(forge(putMap())).body).toMatchObject({ path: "a/b", mtimeNs: filePut().mtimeNs });
  expect(decodeRecord(forge(inlineMap())).body).toMatchObject({ size: 5, chunks: { length: 36 }, data: { length: 5 } });
  expect(decodeRecord(forge(pathMap("a/b"))).body).toEqual({ kind: "file.remove", tree: "uploads", path: "a/b" });
  expect(decodeRecord(forge(linkMap(Buffer.from("../up")))).body).toMatchObject({ target: "../up", mtimeNs: 0n });
  expect(decodeRecord(forge(xattrs("user.a", Buffer.alloc(65_536)))).body).toMatchObject({ path: "a/b" });
  const name = packMap({ name: "packed" }).slice();
  expect(decodeRecord(forge({ flags: 1, map: name, stored: frameWithWindow(name, 23) })).body).toMatchObject({
    name: "packed",
  });
});

const versions: [string, Forgery][] = [
  ["unknown flag", { flags: 8 }],
  ["highest flag", { flags: 0x8000 }],
  ["unknown kind", { kind: 200 }],
  ["highest kind", { kind: 255 }],
];

test.each(versions)("%s asks for an upgrade", (_, forgery) => {
  expect(codeOf(() => decodeRecord(forge(forgery)))).toBe("RECORD_VERSION");
});

test("a newer format version asks for an upgrade, whatever follows and however short", () => {
  const record = forge({});
  record[4] = 2;
  expect(codeOf(() => decodeRecord(record))).toBe("RECORD_VERSION");
  expect(codeOf(() => decodeRecordHeader(record.subarray(0, 5)))).toBe("RECORD_VERSION");
  expect(messageOf(() => decodeRecord(record))).toContain("format version 2, this Tidemark reads up to 1");
});

test("an unknown kind flagged skippable is passed over, its body unread but not unchecked", () => {
  const record = forge({ kind: 99, flags: 5, stored: Uint8Array.of(1, 2, 3), rawBytes: 3, mapBytes: 0 });
  expect(decodeRecord(record)).toMatchObject({ offset: 7, body: { kind: "skipped", code: 99 } });
  record[81] = 9;
  expect(codeOf(() => decodeRecord(record))).toBe("RECORD_INVALID");
});

const invalid: [string, string, Forgery][] = [
  ["kind 0", "kind 0", { kind: 0 }],
  ["offset 0", "offset at byte 16", { offset: offset(0) }],
  ["epoch 0", "epoch 0", { epoch: epoch(0) }],
  ["time beyond any date", "time at byte 24", { timeMs: 8.64e15 + 1 }],
  [
    "another epoch in header and body",
    "field epoch is 2",
    { kind: 2, map: { epoch: 2, writer: "w", host: "h", reason: "start" } },
  ],
  ["map longer than the body", "map length at byte 12", { mapBytes: 4_294_967_295 }],
  ["raw length beyond the limit", "at most 16777216", { flags: 1, rawBytes: 4_294_967_295 }],
  ["raw length without compression", "differ without compression", { rawBytes: 4096 }],
  ["empty map", "does not begin with a map", { map: new Uint8Array(0) }],
  ["no map", "does not begin with a map", { map: Uint8Array.of(0x93, 1, 2, 3) }],
  ["missing field", "field name is missing", { map: {} }],
  ["bytes behind the map", "2 bytes follow the map", { tail: Uint8Array.of(1, 2) }],
  ["bytes inside the map's length", "the map ends at byte", { map: Uint8Array.of(0x80, 0xc0) }],
  ["number for text", "1 is not text", { map: { name: 1 } }],
  ["text that is not UTF-8", "not UTF-8", mark(0xa2, 0xc3, 0x28)],
  ["text cut off", "ends in the middle", mark(0xdb, 0xff, 0xff, 0xff, 0xff)],
  ["array of 4 billion", "ends in the middle", mark(0xdd, 0xff, 0xff, 0xff, 0xff)],
  ["map of 4 billion", "ends in the middle", mark(0xdf, 0xff, 0xff, 0xff, 0xff)],
  ["binary of 4 GB", "ends in the middle", mark(0xc6, 0xff, 0xff, 0xff, 0xff)],
  ["record structure", "0xd4 at byte 6", mark(0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61, 0x01)],
  ["regular expression", "0xc7 at byte 6", mark(0xc7, 0x03, 0x78, 0x92, 0xa0, 0xa0)],
  ["timestamp", "0xd6 at byte 6", mark(0xd6, 0xff, 0, 0, 0, 0)],
  ["reserved token", "0xc1 at byte 6", mark(0xc1)],
  ["number as a field's name", "name is not text", { map: Uint8Array.of(0x81, 0x01, 0x02) }],
  ["field twice", "there twice", { map: Buffer.from("82a46e616d65a161a46e616d65a162", "hex") }],
  ["nesting without end", "nested more than", mark(...Array.from({ length: 100_000 }, () => 0x91), 0xc0)],
  ["page size 513", "field pageSize: 513", commitMap({ pageSize: 513 })],
  ["page size 131072", "field pageSize: 131072", commitMap({ pageSize: 131_072 })],
  ["page size as u64", "field pageSize", commitMap({ pageSize: 1n << 62n })],
  ["not a number", "field transaction: NaN", commitMap({ transaction: NaN })],
  ["infinite", "field transaction: Infinity", commitMap({ transaction: Infinity })],
  ["negative u64", "field after: -1", commitMap({ after: -1n })],
  ["u64 as an inexact float", "field after", commitMap({ after: 1e19 })],
  ["unsafe integer", "field transaction", commitMap({ transaction: (1n << 53n) + 1n })],
  ["unknown cause", `field cause: "rumour"`, commitMap({ cause: "rumour" })],
  ["position in the WAL is no map", "field wal", commitMap({ wal: [1, 2, 3, 4, 5] })],
  ["position in the WAL lacks a field", "field wal: field salt2 is missing", commitMap({ wal: { salt1: 1 } })],
  ["pages is no list", "field pages is not a list", commitMap({ pages: { length: 1 } })],
  ["page without its bytes", "0 bytes of pages, 1 pages of 512", commitMap({ pages: [1] })],
  ["bytes without their page", "512 bytes of pages, 0 pages", { ...commitMap({}), tail: new Uint8Array(512) }],
  ["page 0", "0 is not a page number", { ...commitMap({ pages: [0] }), tail: new Uint8Array(512) }],
  ["page 2^32 - 1", "4294967295 is not", { ...commitMap({ pages: [0xffffffff] }), tail: new Uint8Array(512) }],
  ["page 1.5", "1.5 is not", { ...commitMap({ pages: [1.5] }), tail: new Uint8Array(512) }],
  ["page named by text", "a string is not", { ...commitMap({ pages: ["1"] }), tail: new Uint8Array(512) }],
  ["path out of the tree", `has the part ".."`, pathMap("a/../../etc/passwd")],
  ["path to where it is", `has the part "."`, pathMap("a/./b")],
  ["absolute path", `has the part ""`, pathMap("/etc/passwd")],
  ["path that ends with a slash", `has the part ""`, pathMap("a/")],
  ["path with NUL", "contains NUL", pathMap("a\0b")],
  ["path of 4,096 bytes", "at most 4095 bytes", pathMap("a/".repeat(2047) + "ab")],
  ["name of 256 bytes", "has a name of 256 bytes", pathMap("n".repeat(256))],
  ["path as text", `field path: "a/b" is not binary`, { kind: 10, map: { tree: "uploads", path: "a/b" } }],
  ["path as a number", "field path: 7 is not binary", { kind: 10, map: { tree: "uploads", path: 7 } }],
  [
    "tree that a terminal would obey",
    "control character",
    { kind: 10, map: { tree: "\u001b[2J", path: Buffer.from("a") } },
  ],
  ["link to nothing", "is no link's target", linkMap(Buffer.alloc(0))],
  ["link's target with NUL", "is no link's target", linkMap(Buffer.from("a\0b"))],
  ["link's target of 4,096 bytes", "at most 4095 bytes", linkMap(Buffer.alloc(4096, 0x61))],
  ["link's target as text", 'field target: "a" is not binary', linkMap("a")],
  ["hash of 31 bytes", "field hash: binary of 31 bytes is not a hash", putMap({ hash: Buffer.alloc(31) })],
  ["hash as text", "field hash", putMap({ hash: "7".repeat(32) })],
  [
    "chunk list with half an entry",
    "field chunks: binary of 35 bytes is not a list",
    putMap({ chunks: Buffer.alloc(35) }),
  ],
  ["chunk list as an array", "field chunks: a list is not", putMap({ chunks: [1, 2] })],
  ["chunk of nothing", "a chunk of 0 bytes", putMap({ chunks: chunksOf(0) })],
  ["chunk of 4 GB", "a chunk of 4294967295 bytes", putMap({ chunks: chunksOf(0xffffffff) })],
  ["mode of a device", "field mode: 8630", putMap({ mode: 0o20666 })],
  ["owner of 2^32", "field uid: 4294967296", putMap({ uid: 2 ** 32 })],
  ["time beyond i64", "field mtimeNs: 9223372036854775808 is not an i64", putMap({ mtimeNs: 1n << 63n })],
  ["time as an inexact float", "field mtimeNs", putMap({ mtimeNs: 1.5e300 })],
  ["size below zero", "field size: -1", putMap({ size: -1 })],
  ["attributes as a list", "field xattrs: a list is not a map", putMap({ xattrs: [] })],
  ["attribute without a name", `"" is no attribute's name`, xattrs("", HASH)],
  ["attribute's name with NUL", "is no attribute's name", xattrs("user.a\0b", HASH)],
  ["attribute's name of 256 bytes", "is no attribute's name", xattrs("é".repeat(128), HASH)],
  ["attribute's value as text", "is no attribute's value", xattrs("user.a", "text")],
  ["attribute of 65,537 bytes", "value has 65537 bytes", xattrs("user.a", Buffer.alloc(65_537))],
  ["chunk without content", "a chunk without content", { kind: 7, map: { id: HASH } }],
  ["content of another length", "not the file's one chunk", inlineMap({ size: 6 })],
  ["content shorter than its chunk", "not the file's one chunk", inlineMap({ size: 6, chunks: chunksOf(6) })],
  ["content beside parts", "not the file's one chunk", inlineMap({ parts: 1 })],
  [
    "content in two chunks",
    "not the file's one chunk",
    inlineMap({ chunks: Buffer.concat([chunksOf(4), chunksOf(1)]) }),
  ],
  [
    "bytes behind a part",
    "3 bytes follow the map",
    {
      kind: 9,
      map: { tree: "uploads", put: 1, sequence: 0, chunks: chunksOf(5) },
      tail: Buffer.from("abc"),
    },
  ],
  ["not zstd", "cannot be decompressed", { flags: 1, stored: new Uint8Array(50) }],
  ["nothing stored", "cannot be decompressed", { flags: 1, stored: new Uint8Array(0) }],
  [
    "more than declared",
    "cannot be decompressed",
    { flags: 1, rawBytes: 300, stored: zstdCompressSync(new Uint8Array(64 * MIB)) },
  ],
  [
    "less than declared",
    "299 bytes decompressed",
    { flags: 1, rawBytes: 300, stored: zstdCompressSync(new Uint8Array(299)) },
  ],
  [
    "bytes behind the frame",
    "4 bytes follow the compressed",
    { flags: 1, stored: Buffer.concat([zstdCompressSync(packMap({ name: "x" })), Buffer.from("more")]) },
  ],
  [
    "window of 128 MiB",
    "cannot be decompressed",
    { flags: 1, stored: frameWithWindow(packMap({ name: "x" }).slice(), 27) },
  ],
];

describe("an invalid record is refused and the message says what is wrong", () => {
  test.each(invalid)("%s", (_, problem, forgery) => {
    const record = forge(forgery);
    const before = process.memoryUsage().rss;
    const started = performance.now();
    expect(messageOf(() => decodeRecord(record))).toContain(problem);
    expect(performance.now() - started).toBeLessThan(5_000);
    expect(process.memoryUsage().rss - before).toBeLessThan(48 * MIB);
    expect(codeOf(() => decodeRecord(record))).toBe("RECORD_INVALID");
  });
});

test("memory is asked for by what is there, not by what a small record declares", () => {
  const record = forge({ flags: 1, rawBytes: 16 * MIB, stored: zstdCompressSync(new Uint8Array(1000)) });
  const before = process.memoryUsage().arrayBuffers;
  expect(codeOf(() => decodeRecord(record))).toBe("RECORD_INVALID");
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(3 * MIB);
});

test("a record longer than any can be is refused before its checksum is computed", () => {
  const record = forge({ map: { name: "x" }, tail: new Uint8Array(600_000) });
  expect(messageOf(() => decodeRecordHeader(record))).toContain("at most 524288");
});

test.each([-1, 1, 4_096])("a stored length that is off by %i is refused even under a right checksum", (difference) => {
  for (const record of [forge({}), forge({ kind: 99, flags: 5 })]) {
    const view = new DataView(record.buffer);
    view.setUint32(68, view.getUint32(68) + difference);
    writeRecordChecksum(record);
    expect(messageOf(() => decodeRecord(record))).toContain("stored length at byte 68");
  }
});

test("a float that is minus zero is zero, which is what it would be written as", () => {
  const map = Buffer.from(
    packMap({ epoch: 1, database: "d", transaction: 0.5, sequence: 0, pageSize: 512, pages: [] }),
  );
  map.set([0x80, 0, 0, 0, 0, 0, 0, 0], map.indexOf(0xcb) + 1);
  expect(decodeRecord(forge({ kind: 3, map })).body).toMatchObject({ transaction: 0 });
});

test("names of a prototype's properties are fields like any other", () => {
  const map = Buffer.from(`\x83\xa4name\xa1x\xa9__proto__\x81\xa8polluted\x01\xabconstructor\x02`, "latin1");
  const { body } = decodeRecord(forge({ map }));
  expect(body).toEqual({ kind: "mark", name: "x" });
  expect(Object.getPrototypeOf(body)).toBe(Object.prototype);
  expect("polluted" in {}).toBe(false);
  const inherited = Buffer.from(`\x81\xa9__proto__\x81\xa4name\xa1x`, "latin1");
  expect(messageOf(() => decodeRecord(forge({ map: inherited })))).toContain("field name is missing");
});

test("damage anywhere is found by the checksum and names the offset", () => {
  const record = encodeRecord(recordFields(commit({ pages: [{ pageNumber: 3, data: new Uint8Array(512).fill(7) }] })));
  const names = new Set<string>();
  for (let at = 8; at < record.length; at += 1) {
    const damaged = Uint8Array.from(record);
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    expect(codeOf(() => decodeRecord(damaged))).toBe("RECORD_INVALID");
    if (at >= 24) names.add(messageOf(() => decodeRecord(damaged)).slice(0, 18));
  }
  expect([...names]).toEqual(["record at offset 7"]);
});

test("a record in the middle of a larger buffer is read from its own bytes only", () => {
  const record = encodeRecord(recordFields({ kind: "mark", name: "inside" }));
  const around = new Uint8Array(record.length + 11).fill(0xff);
  around.set(record, 3);
  expect(decodeRecord(around.subarray(3, 3 + record.length)).body).toEqual({ kind: "mark", name: "inside" });
  writeRecordChecksum(around.subarray(3, 3 + record.length));
  expect(Buffer.from(around.subarray(3, 3 + record.length))).toEqual(Buffer.from(record));
});
