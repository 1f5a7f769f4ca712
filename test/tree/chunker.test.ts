import { createHash } from "node:crypto";

import { expect, test } from "vitest";

import { chunkLength, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES } from "../../src/tree/chunker.ts";
import { Random } from "../support/random.ts";

function cuts(data: Uint8Array): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < data.length;) {
    const length = chunkLength(data, at, data.length);
    chunks.push(data.subarray(at, at + length));
    at += length;
  }
  return chunks;
}

const names = (chunks: readonly Uint8Array[]): string[] =>
  chunks.map((chunk) => createHash("sha256").update(chunk).digest("hex"));

test("chunks keep their bounds, are 256 KiB or so on average, and few are cut for being too long", () => {
  const chunks = cuts(new Random("bounds").bytes(48 * 1024 * 1024));
  const sizes = chunks.map((chunk) => chunk.length);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(MAX_CHUNK_BYTES);
  expect(Math.min(...sizes.slice(0, -1))).toBeGreaterThan(MIN_CHUNK_BYTES);
  const average = sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
  expect(average).toBeGreaterThan(220 * 1024);
  expect(average).toBeLessThan(340 * 1024);
  expect(sizes.filter((size) => size === MAX_CHUNK_BYTES).length / sizes.length).toBeLessThan(0.12);
});

test("the cut does not depend on how much of what follows is there, as long as it is a largest chunk", () => {
  const data = new Random("feeding").bytes(4 * 1024 * 1024);
  for (let at = 0; at + MAX_CHUNK_BYTES < data.length;) {
    const length = chunkLength(data, at, data.length);
    expect(chunkLength(data, at, at + MAX_CHUNK_BYTES)).toBe(length);
    expect(chunkLength(data.slice(at), 0, data.length - at)).toBe(length);
    at += length;
  }
});

test("an insertion changes the chunks near it only", () => {
  const random = new Random("insertion");
  const data = random.bytes(16 * 1024 * 1024);
  const at = 5_000_000;
  const edited = Buffer.concat([data.subarray(0, at), random.bytes(100), data.subarray(at)]);
  const before = names(cuts(data));
  const known = new Set(before);
  const fresh = names(cuts(edited)).filter((name) => !known.has(name));
  expect(fresh.length).toBeLessThanOrEqual(4);
  expect(before.length).toBeGreaterThan(40);
});

/** The cuts of logs that exist: another table or another mask would find nothing again that they hold. */
test("the cuts are what they have always been", () => {
  const data = Buffer.alloc(3_000_000);
  let state = 1;
  for (let i = 0; i < data.length; i += 1) {
    // Numerical Recipes' generator; its high bits are random enough.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    data[i] = state >>> 24;
  }
  expect(cuts(data).map((chunk) => chunk.length)).toMatchInlineSnapshot(`
    [
      348176,
      352927,
      302489,
      300052,
      458752,
      428821,
      288506,
      277726,
      242551,
    ]
  `);
});

test("what is small is one chunk", () => {
  for (const size of [1, 1000, MIN_CHUNK_BYTES]) expect(cuts(Buffer.alloc(size)).length).toBe(1);
});
