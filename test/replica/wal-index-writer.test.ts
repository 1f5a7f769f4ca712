import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { BLOCK_BYTES, HASH_SLOTS, HASH_TABLE_BYTE_OFFSET, WAL_INDEX_HEADER_BYTES } from "../../src/format/wal-index.ts";
import { appendEntries } from "../../src/replica/sqlite/wal-index-writer.ts";
import { readEntries } from "../../src/sqlite/committed-pages.ts";

let directory: string;
let fd: number;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-wal-index-"));
  fd = fs.openSync(path.join(directory, "shm"), "w+");
});
afterEach(() => {
  fs.closeSync(fd);
  fs.rmSync(directory, { recursive: true, force: true });
});

function pages(count: number, from: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => from + i);
}

function block(number: number): { pages: Uint32Array; slots: Uint16Array } {
  const bytes = new Uint8Array(BLOCK_BYTES);
  fs.readSync(fd, bytes, 0, BLOCK_BYTES, number * BLOCK_BYTES);
  const header = number === 0 ? WAL_INDEX_HEADER_BYTES : 0;
  return {
    pages: new Uint32Array(bytes.buffer, header, (HASH_TABLE_BYTE_OFFSET - header) / 4),
    slots: new Uint16Array(bytes.buffer, HASH_TABLE_BYTE_OFFSET, HASH_SLOTS),
  };
}

test("what writers left who died before they published is cleared, however often that happens", () => {
  appendEntries(fd, 0, pages(10, 1));
  for (let killed = 0; killed < 5; killed += 1) appendEntries(fd, 10, pages(4000, 100_000 * killed + 1));
  appendEntries(fd, 10, pages(5, 50));
  const first = block(0);
  expect(first.pages.slice(0, 16)).toEqual(Uint32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 50, 51, 52, 53, 54, 0));
  expect(first.pages.slice(16).every((page) => page === 0)).toBe(true);
  expect(first.slots.filter((slot) => slot !== 0).length).toBe(15);
});

test("an append over a block boundary empties the new block first", () => {
  appendEntries(fd, 0, pages(9000, 1));
  // The WAL began anew: the second block still has its old entries.
  appendEntries(fd, 0, pages(4070, 20_001));
  expect(block(1).slots.filter((slot) => slot !== 0).length).toBe(8);
  expect(block(1).pages.slice(0, 9)).toEqual(Uint32Array.of(24063, 24064, 24065, 24066, 24067, 24068, 24069, 24070, 0));
  expect(readEntries(fd, { after: 0, through: 4070 })).toEqual(pages(4070, 20_001));
  expect(fs.fstatSync(fd).size % BLOCK_BYTES).toBe(0);
});
