import { randomBytes } from "node:crypto";

import { expect, test } from "vitest";

import { chunkCount, chunkSizes, chunksOf, encodeChunks } from "../../src/event/chunk-list.ts";
import { byteString } from "../../src/event/tree-path.ts";

test("a list comes back, from the middle of a buffer as well", () => {
  const chunks = [1, 65_536, 0xffffffff].map((size) => ({ id: byteString(randomBytes(32)), size }));
  const list = encodeChunks(chunks);
  expect(list.length).toBe(3 * 36);
  const around = Buffer.concat([Buffer.alloc(7), list, Buffer.alloc(5)]).subarray(7, 7 + list.length);
  expect([...chunksOf(around)]).toEqual(chunks);
  expect([...chunkSizes(around)]).toEqual(chunks.map(({ size }) => size));
  expect([chunkCount(around), chunkCount(encodeChunks([]))]).toEqual([3, 0]);
});

test("100,000 chunks are a list of 3.6 MB, walked one by one", () => {
  const list = Buffer.alloc(100_000 * 36, 1);
  const before = process.memoryUsage().arrayBuffers;
  let bytes = 0;
  for (const { size } of chunksOf(list)) bytes += size;
  expect(bytes).toBe(100_000 * 0x01010101);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000);
});
