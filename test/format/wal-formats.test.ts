import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";

import { decodeDatabaseHeader, lockBytePage } from "../../src/format/database-header.ts";
import {
  decodeCheckpointInfo,
  decodeWalIndexHeader,
  encodeWalIndexHeader,
  HASH_SLOTS,
  HASH_TABLE_BYTE_OFFSET,
  BLOCK_BYTES,
  entriesOf,
  hashSlot,
  locateEntry,
  WAL_INDEX_HEADER_BYTES,
} from "../../src/format/wal-index.ts";
import {
  decodeFrameHeader,
  decodeWalHeader,
  encodeFrame,
  encodeWalHeader,
  FRAME_HEADER_BYTES,
  frameByteOffset,
  frameChecksum,
  WAL_HEADER_BYTES,
  walChecksum,
} from "../../src/format/wal.ts";

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-format-"));
});
afterEach(() => {
  fs.rmSync(directory, { recursive: true, force: true });
});

/** Database, WAL and wal-index as SQLite wrote them; copied, so that no lock is lost. */
function written(pageSize: number, frames: number): { database: Uint8Array; wal: Uint8Array; shm: Uint8Array } {
  const file = path.join(directory, `${pageSize}.db`);
  const connection = new Database(file);
  connection.pragma(`page_size=${pageSize}`);
  connection.pragma("journal_mode=WAL");
  connection.pragma("wal_autocheckpoint=0");
  connection.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
  connection.pragma("wal_checkpoint(TRUNCATE)");
  const insert = connection.prepare("INSERT INTO t (body) VALUES (randomblob(?))");
  while (fs.statSync(`${file}-wal`).size < frameByteOffset(frames + 1, pageSize)) insert.run(pageSize / 2);
  const files = ["", "-wal", "-shm"].map((suffix) => {
    fs.copyFileSync(file + suffix, `${file}${suffix}.copy`);
    return new Uint8Array(fs.readFileSync(`${file}${suffix}.copy`));
  });
  connection.close();
  const [database = new Uint8Array(), wal = new Uint8Array(), shm = new Uint8Array()] = files;
  return { database, wal, shm };
}

for (const pageSize of [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536]) {
  test(`what SQLite writes with pages of ${pageSize} bytes is read back and written the same`, () => {
    const { database, wal, shm } = written(pageSize, 40);
    expect(decodeDatabaseHeader(database)).toMatchObject({ pageSize, wal: true });
    const index = decodeWalIndexHeader(shm);
    const header = decodeWalHeader(wal);
    if (!index || !header) throw new Error("not decoded");
    expect(index).toMatchObject({ pageSize, salt1: header.salt1, salt2: header.salt2 });
    expect(header.pageSize).toBe(pageSize);
    expect(encodeWalIndexHeader(index)).toEqual(shm.slice(0, 48));
    const { bytes, checksum } = encodeWalHeader(header);
    expect(bytes).toEqual(wal.slice(0, WAL_HEADER_BYTES));
    let running = checksum;
    const again = new Uint8Array(FRAME_HEADER_BYTES + pageSize);
    for (let frame = 1; frame <= index.mxFrame; frame += 1) {
      const byteOffset = frameByteOffset(frame, pageSize);
      const decoded = decodeFrameHeader(wal, byteOffset);
      const bigEndian = header.bigEndianChecksums;
      const start = running;
      running = frameChecksum(wal, { byteOffset, pageSize, bigEndian, start });
      expect(running).toEqual(decoded.checksum);
      const page = wal.subarray(byteOffset + FRAME_HEADER_BYTES, byteOffset + FRAME_HEADER_BYTES + pageSize);
      const { pageNumber, commitSizePages, salt1, salt2 } = decoded;
      encodeFrame(again, 0, { pageNumber, commitSizePages, salt1, salt2, page, start, bigEndian });
      expect(Buffer.compare(again, wal.subarray(byteOffset, byteOffset + again.length))).toBe(0);
    }
    expect(running).toEqual(index.frameChecksum);
    expect(decodeCheckpointInfo(shm)).toMatchObject({ backfilledFrames: 0, backfillAttemptedFrames: 0 });
    expect(lockBytePage(pageSize)).toBe(2 ** 30 / pageSize + 1);
  });
}

test("every frame is found through the hash tables that SQLite made, over three blocks", () => {
  const { wal, shm } = written(512, 9000);
  const mxFrame = decodeWalIndexHeader(shm)?.mxFrame ?? 0;
  expect(mxFrame).toBeGreaterThan(8158);
  const view = new DataView(shm.buffer, shm.byteOffset);
  const little = os.endianness() === "LE";
  for (let frame = 1; frame <= mxFrame; frame += 1) {
    const { block, index, byteOffset } = locateEntry(frame);
    const { pageNumber } = decodeFrameHeader(wal, frameByteOffset(frame, 512));
    expect(view.getUint32(byteOffset, little)).toBe(pageNumber);
    const slots = block * BLOCK_BYTES + HASH_TABLE_BYTE_OFFSET;
    let slot = hashSlot(pageNumber);
    for (let probes = 0; view.getUint16(slots + slot * 2, little) !== index + 1; probes += 1) {
      if (probes > HASH_SLOTS) throw new Error(`frame ${frame} is not in its hash table`);
      slot = (slot + 1) % HASH_SLOTS;
    }
  }
});

test("entries lie where the blocks begin and end", () => {
  expect(locateEntry(1)).toEqual({ block: 0, index: 0, byteOffset: WAL_INDEX_HEADER_BYTES });
  expect(locateEntry(4062)).toEqual({ block: 0, index: 4061, byteOffset: HASH_TABLE_BYTE_OFFSET - 4 });
  expect(locateEntry(4063)).toEqual({ block: 1, index: 0, byteOffset: BLOCK_BYTES });
  expect(locateEntry(8158)).toEqual({ block: 1, index: 4095, byteOffset: BLOCK_BYTES + HASH_TABLE_BYTE_OFFSET - 4 });
  expect(locateEntry(8159)).toEqual({ block: 2, index: 0, byteOffset: 2 * BLOCK_BYTES });
  expect(entriesOf(0).count + entriesOf(1).count).toBe(8158);
});

test("a header is not taken when its copies differ, its checksum is wrong, or it is short", () => {
  const { shm, wal, database } = written(4096, 3);
  expect(decodeWalIndexHeader(shm)).toBeDefined();
  for (let byte = 0; byte < 96; byte += 1) {
    const damaged = shm.slice();
    damaged[byte] = (damaged[byte] ?? 0) ^ 1;
    expect(decodeWalIndexHeader(damaged)).toBeUndefined();
    if (byte >= 48) continue;
    damaged[byte + 48] = (damaged[byte + 48] ?? 0) ^ 1;
    expect(decodeWalIndexHeader(damaged)).toBeUndefined();
  }
  expect(decodeWalIndexHeader(shm.slice(0, 95))).toBeUndefined();
  expect(decodeWalIndexHeader(new Uint8Array(136))).toBeUndefined();
  for (let byte = 0; byte < WAL_HEADER_BYTES; byte += 1) {
    const damaged = wal.slice();
    damaged[byte] = (damaged[byte] ?? 0) ^ 2;
    expect(decodeWalHeader(damaged)).toBeUndefined();
  }
  expect(decodeDatabaseHeader(database.slice(0, 99))).toBeUndefined();
  expect(decodeDatabaseHeader(new Uint8Array(100))).toBeUndefined();
});

test("the checksum is the same on the fast and the slow path, and differs by byte order", () => {
  const bytes = Uint8Array.from({ length: 65 }, (_, i) => (i * 37) % 256);
  const aligned = bytes.slice(1);
  const start = { c1: 0xffff_fff0, c2: 7 };
  for (const bigEndian of [false, true]) {
    const fast = walChecksum(aligned, { byteOffset: 0, byteLength: 64, bigEndian, start });
    expect(walChecksum(bytes, { byteOffset: 1, byteLength: 64, bigEndian, start })).toEqual(fast);
  }
  const one = walChecksum(aligned, { byteOffset: 0, byteLength: 64, bigEndian: true, start });
  expect(walChecksum(aligned, { byteOffset: 0, byteLength: 64, bigEndian: false, start })).not.toEqual(one);
});
