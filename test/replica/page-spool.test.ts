import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { PageSlots } from "../../src/replica/sqlite/page-slots.ts";
import { PageSpool, SPOOL_MEMORY_BYTES } from "../../src/replica/sqlite/page-spool.ts";
import { Random } from "../support/random.ts";

const PAGE_SIZE = 512;
/** More than stay in memory. */
const MANY = (2 * SPOOL_MEMORY_BYTES) / PAGE_SIZE;

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-spool-"));
});
afterEach(() => fs.rmSync(directory, { recursive: true }));

function image(pageNumber: number, version: number): Uint8Array {
  const page = new Uint32Array(PAGE_SIZE / 4).fill(version);
  page[0] = pageNumber;
  return new Uint8Array(page.buffer);
}

function spoolOf(pages: Iterable<number>, version: number): PageSpool {
  const spool = new PageSpool(PAGE_SIZE, directory);
  for (const pageNumber of pages) spool.put(pageNumber, image(pageNumber, version));
  return spool;
}

/** Page number -> version of each image, all read in order. */
function contentOf(spool: PageSpool): Map<number, number> {
  return new Map(
    [...spool.pageNumbers()].map((pageNumber) => {
      const words = new Uint32Array(Uint8Array.from(spool.get(pageNumber)).buffer);
      expect(words[0]).toBe(pageNumber);
      return [pageNumber, words[1] as number];
    }),
  );
}

const upTo = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);

test.each([
  ["few", "few"],
  ["many", "few"],
  ["few", "many"],
  ["many", "many"],
  ["none", "few"],
  ["none", "many"],
])("a spool with %s pages takes over one with %s: later images win, and nothing is left of it", (here, there) => {
  const count = { none: 0, few: 10, many: MANY };
  const earlier = upTo(count[here as keyof typeof count]);
  const later = upTo(count[there as keyof typeof count]).map((n) => n + 5);
  const spool = spoolOf(earlier, 1);
  const taken = spoolOf(later, 2);
  spool.absorb(taken);
  expect(taken.size).toBe(0);
  const expected = new Map([...earlier.map((n) => [n, 1] as const), ...later.map((n) => [n, 2] as const)]);
  expect(contentOf(spool)).toEqual(new Map([...expected].toSorted(([a], [b]) => a - b)));
  spool.filter((pageNumber) => pageNumber % 3 === 0);
  expect([...spool.pageNumbers()]).toEqual([...expected.keys()].filter((n) => n % 3 === 0).toSorted((a, b) => a - b));
  spool.close();
  expect(fs.readdirSync(directory)).toEqual([]);
});

test("what is put is kept as it was, whatever becomes of its buffer", () => {
  const spool = new PageSpool(PAGE_SIZE, directory);
  const page = image(7, 1);
  spool.put(7, page);
  page.fill(0);
  expect(contentOf(spool)).toEqual(new Map([[7, 1]]));
});

test("slots are what a Map would say, through sets, deletions and growth", () => {
  const random = new Random("page slots");
  const slots = new PageSlots();
  const expected = new Map<number, number>();
  for (let i = 0; i < 60_000; i += 1) {
    const pageNumber = random.integer(1, i % 2 === 0 ? 20_000 : 0xffff_fffe);
    slots.set(pageNumber, i);
    expected.set(pageNumber, i);
    if (i % 7000 !== 0) continue;
    const wanted = (page: number): boolean => page % 5 !== 0;
    slots.filter(wanted);
    for (const page of expected.keys()) if (!wanted(page)) expected.delete(page);
  }
  expect(slots.size).toBe(expected.size);
  expect([...slots.pageNumbers()]).toEqual([...expected.keys()].toSorted((a, b) => a - b));
  for (const [pageNumber, slot] of expected) expect(slots.get(pageNumber)).toBe(slot);
  slots.filter((page) => page !== 5);
  expect(slots.get(5)).toBeUndefined();
});
