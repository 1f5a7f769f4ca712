import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  decodeRecord,
  decodeRecordHeader,
  encodeRecord,
  MAX_RECORD_BYTES,
  NO_PREVIOUS_HASH,
  packBody,
  pagesPerRecord,
  recordHash,
} from "../../src/event/codec.ts";
import type { EventBody } from "../../src/event/kinds.ts";
import { epoch, offset } from "../../src/event/positions.ts";
import type { TreePath } from "../../src/event/tree-path.ts";
import { codeOf, commit, filePut, messageOf, recordFields } from "./record-samples.ts";

const PAGE_SIZES = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];

function part(pageSize: number, pages: readonly Uint8Array[], database = "app.db"): EventBody {
  const images = pages.map((data, index) => ({ pageNumber: 0xfffffffe - index, data }));
  return { kind: "sqlite.part", database, transaction: Number.MAX_SAFE_INTEGER, sequence: 0, pageSize, pages: images };
}

test("a record says again what it was given", () => {
  const body = commit({
    pages: [{ pageNumber: 9, data: randomBytes(512) }],
    before: (1n << 64n) - 1n,
    after: 1n << 63n,
  });
  const record = encodeRecord(recordFields(body));
  const { bytes, previousHash, ...event } = decodeRecord(record);
  expect(event).toEqual({ offset: 7, epoch: 3, timeMs: 1_767_225_600_000, body });
  expect(bytes).toBe(record.length);
  expect(previousHash).toEqual(Buffer.alloc(32));
});

test("the header alone tells position, kind and the record before", () => {
  const hash = recordHash(Uint8Array.of(1));
  const record = encodeRecord({ ...recordFields({ kind: "mark", name: "m" }), previousHash: hash });
  const header = decodeRecordHeader(record);
  expect(header).toMatchObject({ kind: 5, flags: 0, offset: 7, epoch: 3, timeMs: 1_767_225_600_000 });
  expect(Buffer.from(header.previousHash)).toEqual(Buffer.from(hash));
});

test("a body is compressed when that makes it smaller, and only then", () => {
  const zeros = encodeRecord(recordFields(part(4096, [new Uint8Array(4096)])));
  const noise = encodeRecord(recordFields(part(4096, [randomBytes(4096)])));
  expect([decodeRecordHeader(zeros).flags, decodeRecordHeader(noise).flags]).toEqual([1, 0]);
  expect(zeros.length).toBeLessThan(300);
  expect(noise.length).toBeLessThan(4096 + 80 + 150);
});

test.each([
  ["noise", randomBytes(300_000)],
  ["text", Buffer.alloc(300_000, "so it is; ")],
  ["noise with text in it", Buffer.concat([randomBytes(200_000), Buffer.alloc(100_000, "so it is; ")])],
  ["a little noise", randomBytes(5000)],
])("a body that was packed before becomes the same record, in the memory that it had: %s", (_name, data) => {
  const body: EventBody = { kind: "file.chunk", id: randomBytes(32), data };
  const whole = encodeRecord(recordFields(body));
  for (const isDoubtful of [false, true]) {
    const packed = packBody(body, { isDoubtful });
    const record = encodeRecord(recordFields(packed));
    expect(Buffer.compare(record, whole)).toBe(0);
    expect(record.buffer === packed.stored.buffer).toBe(true);
  }
});

test("pages of an uncompressed record are views, and a record owns its memory", () => {
  const record = encodeRecord(recordFields(part(4096, [randomBytes(4096)])));
  expect(record.buffer.byteLength).toBe(record.length);
  const { body } = decodeRecord(record);
  expect("pages" in body && body.pages[0]?.data.buffer).toBe(record.buffer);
  const small = encodeRecord(recordFields({ kind: "mark", name: "m" }));
  expect(small.buffer.byteLength).toBe(small.length);
});

test("a consistent point is marked in the header, whatever the record says and however it is stored", () => {
  for (const body of [filePut(), part(4096, [new Uint8Array(4096)])]) {
    const record = encodeRecord({ ...recordFields(body), consistent: true });
    expect(decodeRecordHeader(record).flags & 16).toBe(16);
    expect(decodeRecord(record)).toMatchObject({ consistent: true, body: { kind: body.kind } });
    expect("consistent" in decodeRecord(encodeRecord(recordFields(body)))).toBe(false);
  }
});

test("content and the list of chunks are views of the body", () => {
  const chunk: EventBody = { kind: "file.chunk", id: randomBytes(32), data: randomBytes(100_000) };
  const record = encodeRecord(recordFields(chunk));
  const { body } = decodeRecord(record);
  // Not toBe: it would print both when they differ.
  expect(body.kind === "file.chunk" && body.data.buffer === record.buffer).toBe(true);
  const many = decodeRecord(encodeRecord(recordFields({ ...filePut(), chunks: listOf(6000), parts: 1 }))).body;
  expect(many.kind === "file.put" && many.chunks.buffer === many.hash.buffer).toBe(true);
});

/** That many entries, which cannot be compressed. */
function listOf(count: number): Uint8Array {
  const list = randomBytes(count * 36);
  for (let at = 32; at < list.length; at += 36) list.writeUInt32BE(1, at);
  return list;
}

test("a file with everything at its largest fits into a record", () => {
  const xattrs = new Map([
    ["user.a", randomBytes(65_536)],
    ["user.b", randomBytes(65_536)],
  ]);
  const path = `${"d/".repeat(1920)}${"n".repeat(255)}` as TreePath;
  const body = filePut({ tree: "t".repeat(255), path, chunks: listOf(6000), xattrs, group: Number.MAX_SAFE_INTEGER });
  expect(encodeRecord(recordFields(body)).length).toBeLessThan(MAX_RECORD_BYTES);
  const largest: EventBody = { kind: "file.chunk", id: randomBytes(32), data: randomBytes(448 * 1024) };
  expect(encodeRecord(recordFields(largest)).length).toBeLessThan(MAX_RECORD_BYTES);
});

test("records given to the next call are not changed by it", () => {
  const first = encodeRecord(recordFields({ kind: "mark", name: "first" }));
  const before = Buffer.from(first);
  encodeRecord(recordFields({ kind: "mark", name: "second" }));
  expect(Buffer.from(first)).toEqual(before);
});

describe.each(PAGE_SIZES)("pages of %i bytes", (pageSize) => {
  test("as many as pagesPerRecord fit even when nothing can be compressed, and the room is used", () => {
    const count = pagesPerRecord(pageSize);
    const pages = Array.from({ length: count }, () => randomBytes(pageSize));
    const record = encodeRecord(recordFields(part(pageSize, pages, "n".repeat(255))));
    expect(record.length).toBeLessThanOrEqual(MAX_RECORD_BYTES);
    expect(record.length + pageSize + 1100).toBeGreaterThan(MAX_RECORD_BYTES);
    const { body } = decodeRecord(record);
    const decoded = "pages" in body ? body.pages.map((page) => page.data) : [];
    expect(Buffer.concat(decoded).equals(Buffer.concat(pages))).toBe(true);
  });

  test("one record of too many names its kind and size", () => {
    const pages = Array.from({ length: pagesPerRecord(pageSize) + 3 }, () => randomBytes(pageSize));
    const encode = (): unknown => encodeRecord(recordFields(part(pageSize, pages)));
    expect(codeOf(encode)).toBe("RECORD_TOO_LARGE");
    expect(messageOf(encode)).toMatch(/sqlite\.part\): [56]\d{5} bytes, allowed are 524288/);
  });
});

test("a closing record with the longest fields still fits beside a full set of pages", () => {
  const pageSize = 65_536;
  const pages = Array.from({ length: pagesPerRecord(pageSize) }, (_, index) => ({
    pageNumber: 0xfffffffe - index,
    data: randomBytes(pageSize),
  }));
  const wal = { salt1: 0xffffffff, salt2: 0xffffffff, frame: 0xffffffff, checksum1: 0xffffffff, checksum2: 0xffffffff };
  const body = commit({ database: "ü".repeat(127), pageSize, pages, wal, before: 1n << 63n, gapSinceMs: 8.64e15 });
  expect(encodeRecord(recordFields(body)).length).toBeLessThanOrEqual(MAX_RECORD_BYTES);
});

test("more than 16 MiB of pages are refused even when they would compress to nothing", () => {
  const pages = Array.from({ length: 257 }, () => new Uint8Array(65_536));
  const encode = (): unknown => encodeRecord(recordFields(part(65_536, pages)));
  expect(codeOf(encode)).toBe("RECORD_TOO_LARGE");
  expect(messageOf(encode)).toMatch(/168\d{5} bytes before compression, allowed are 16777216/);
  expect(codeOf(() => encodeRecord(recordFields(part(65_536, pages.slice(0, 255)))))).toBe("none");
});

test("a record that nobody could read is not written", () => {
  const bad: [string, EventBody][] = [
    ["field name: the text has 0 bytes", { kind: "mark", name: "" }],
    ["field name: the text has 256 bytes", { kind: "mark", name: "é".repeat(128) }],
    ["field name: the text contains a control character", { kind: "mark", name: "a\u001b[2Jb" }],
    ["field name: the text contains half of a surrogate pair", { kind: "mark", name: "\ud800" }],
    ["field pageSize: 513 is not a page size", commit({ pageSize: 513 })],
    ["field after: -1 is not a u64", commit({ after: -1n })],
    ["field before: 18446744073709551616 is not a u64", commit({ before: 1n << 64n })],
    ["field transaction: 0.5 is not an integer", commit({ transaction: 0.5 })],
    ["field wal: field frame: -1 is not an integer", commit({ wal: { ...commit().wal, frame: -1 } })],
    ["page 1 has 511 bytes, the page size is 512", commit({ pages: [{ pageNumber: 1, data: new Uint8Array(511) }] })],
    ["0 is not a page number", commit({ pages: [{ pageNumber: 0, data: new Uint8Array(512) }] })],
    ["has the part", filePut({ path: "a/../b" as TreePath })],
    ["is not a string of at most 4095 bytes", filePut({ path: "\u0100" as TreePath })],
    ["field mode: 33188 is not", filePut({ mode: 0o100644 })],
    ["is not an i64", filePut({ mtimeNs: 1n << 63n })],
    ["binary of 20 bytes is not a hash", filePut({ hash: new Uint8Array(20) })],
    ["is no attribute's name", filePut({ xattrs: new Map([["a\0b", new Uint8Array(1)]]) })],
    ["not the file's one chunk", filePut({ data: new Uint8Array(300_000) })],
    ["a chunk without content", { kind: "file.chunk", id: new Uint8Array(32), data: new Uint8Array(0) }],
    ["field epoch is not 3", { kind: "epoch", epoch: epoch(2), writer: "w", host: "h", reason: "start" }],
  ];
  for (const [problem, body] of bad) {
    expect(messageOf(() => encodeRecord(recordFields(body)))).toContain(problem);
    expect(codeOf(() => encodeRecord(recordFields(body)))).toBe("RECORD_INVALID");
  }
});

test("a position out of range is not written", () => {
  const fields = recordFields({ kind: "mark", name: "m" });
  const bad = [
    { offset: offset(0) },
    { offset: offset(2 ** 53) },
    { epoch: epoch(0) },
    { epoch: epoch(2 ** 32) },
    { timeMs: -1 },
    { timeMs: 0.5 },
    { previousHash: new Uint8Array(31) },
  ];
  for (const wrong of bad) expect(codeOf(() => encodeRecord({ ...fields, ...wrong }))).toBe("RECORD_INVALID");
});

test("the hash of a record is its SHA-256", () => {
  expect(Buffer.from(recordHash(new Uint8Array(0))).toString("hex")).toBe(
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  );
  expect(NO_PREVIOUS_HASH).toEqual(new Uint8Array(32));
});
