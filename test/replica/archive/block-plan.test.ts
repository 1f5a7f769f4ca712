import { expect, test } from "vitest";

import {
  BLOCK_BYTES,
  type BlockNow,
  type BlockTable,
  EXTENT_BYTES,
  type KnownBlock,
  PATCH_PAGES,
  planBlock,
} from "../../../src/replica/archive/block-plan.ts";
import { lockBytePage } from "../../../src/format/database-header.ts";
import { Random } from "../../support/random.ts";

/** A repository that keeps of each page what its hash was, and counts. */
class Blobs {
  readonly #contents = new Map<number, readonly bigint[]>();
  pagesWritten = 0;

  add(content: readonly bigint[]): number {
    this.#contents.set(this.#contents.size + 1, content);
    this.pagesWritten += content.length;
    return this.#contents.size;
  }

  get(id: number): readonly bigint[] {
    return this.#contents.get(id) ?? [];
  }

  /** What a base writes, and the table that it leaves. */
  base(now: BlockNow, last: KnownBlock<number> | undefined): KnownBlock<number> {
    const plan = planBlock(now, last);
    const perExtent = EXTENT_BYTES / now.pageSize;
    const extents = plan.extents.map((extent, at) => {
      if (!extent.write) return extent.id;
      return this.add([...now.hashes.subarray(at * perExtent, (at + 1) * perExtent)]);
    });
    const written = plan.patches.map((pages) => {
      const id = this.add(pages.map((page) => now.hashes[page - now.firstPage] ?? -1n));
      return { id, pages };
    });
    const table = { extents, patches: [...plan.kept, ...written] };
    if (plan.unchanged) expect(table).toEqual(last?.table);
    return { hashes: now.hashes.slice(), table };
  }

  /** What whoever restores would have, page by page. */
  read(table: BlockTable<number>, now: BlockNow): BigUint64Array {
    const perExtent = EXTENT_BYTES / now.pageSize;
    const pages = new BigUint64Array(now.hashes.length);
    table.extents.forEach((id, at) => {
      this.get(id ?? 0).forEach((hash, slot) => {
        if (at * perExtent + slot < pages.length) pages[at * perExtent + slot] = hash;
      });
    });
    for (const { id, pages: slots } of table.patches) {
      slots.forEach((page, slot) => {
        if (page !== 0) pages[page - now.firstPage] = this.get(id)[slot] ?? -2n;
      });
    }
    return pages;
  }
}

let drawn = 0n;

function pagesOf(count: number): BigUint64Array {
  return BigUint64Array.from({ length: count }, () => (drawn += 1n));
}

function resized(hashes: BigUint64Array, count: number): BigUint64Array {
  const grown = pagesOf(count);
  grown.set(hashes.subarray(0, Math.min(count, hashes.length)));
  return grown;
}

test("after any changes a base says what every page is, and its tables stay small", () => {
  const random = new Random("block plan");
  for (let round = 0; round < 16; round += 1) {
    const pageSize = 2 ** random.integer(9, 16);
    const most = BLOCK_BYTES / pageSize;
    const firstPage = 1 + most * random.pick([0, 16, 31]);
    const blobs = new Blobs();
    let hashes = pagesOf(random.integer(1, most));
    let last: KnownBlock<number> | undefined;
    for (let base = 0; base < 12; base += 1) {
      const lockSlot = lockBytePage(pageSize) - firstPage;
      if (lockSlot >= 0 && lockSlot < hashes.length) hashes[lockSlot] = 0n;
      const now = { pageSize, firstPage, hashes };
      last = blobs.base(now, last);
      expect(blobs.read(last.table, now)).toEqual(hashes);
      for (const { pages } of last.table.patches) expect(pages.length).toBeLessThanOrEqual(PATCH_PAGES);
      const live = last.table.patches.flatMap(({ pages }) => pages.filter((page) => page !== 0));
      expect(new Set(live).size).toBe(live.length);
      hashes = hashes.slice();
      if (random.next() < 0.3) hashes = resized(hashes, random.integer(1, most));
      const changes = Math.floor(hashes.length * random.pick([0, 0.0001, 0.01, 0.05, 0.4]));
      for (let i = 0; i < changes; i += 1) hashes[random.integer(0, hashes.length - 1)] = drawn += 1n;
    }
  }
});

test("a hundredth of the pages at random costs about a hundredth, base after base", () => {
  const random = new Random("one percent");
  const pageSize = 4096;
  const blobs = new Blobs();
  const blocks = Array.from({ length: 16 }, (_, block) => ({
    firstPage: 1 + (block * BLOCK_BYTES) / pageSize,
    hashes: pagesOf(BLOCK_BYTES / pageSize),
    last: undefined as KnownBlock<number> | undefined,
  }));
  const total = (16 * BLOCK_BYTES) / pageSize;
  for (const block of blocks) block.last = blobs.base({ pageSize, ...block }, undefined);
  expect(blobs.pagesWritten).toBe(total);
  let extents = 0;
  for (let base = 1; base <= 20; base += 1) {
    blobs.pagesWritten = 0;
    for (const block of blocks) {
      for (let i = 0; i < block.hashes.length / 100; i += 1) {
        block.hashes[random.integer(0, block.hashes.length - 1)] = drawn += 1n;
      }
      block.last = blobs.base({ pageSize, ...block }, block.last);
    }
    if (base <= 8) expect(blobs.pagesWritten).toBeLessThanOrEqual(total * 0.02);
    extents = Math.max(extents, blobs.pagesWritten);
  }
  // Where the patches of an extent reach a quarter it is written again: never all of them at once.
  expect(extents).toBeLessThan(total * 0.5);
});

test("an extent of which a quarter is patched is written whole, and leaves the patches", () => {
  const pageSize = 4096;
  const blobs = new Blobs();
  const hashes = pagesOf(1000);
  const first = blobs.base({ pageSize, firstPage: 1, hashes }, undefined);
  for (let page = 0; page < 15; page += 1) hashes[64 + page] = drawn += 1n;
  const patched = blobs.base({ pageSize, firstPage: 1, hashes }, first);
  expect(patched.table.extents).toEqual(first.table.extents);
  expect(patched.table.patches.flatMap(({ pages }) => pages)).toHaveLength(15);
  hashes[64 + 20] = drawn += 1n;
  const written = blobs.base({ pageSize, firstPage: 1, hashes }, patched);
  expect(written.table.patches).toEqual([]);
  expect(written.table.extents.filter((id, at) => id !== first.table.extents[at])).toHaveLength(1);
});

test("many bases with a page each leave few patches, and write few pages for that", () => {
  const random = new Random("small patches");
  const pageSize = 4096;
  const blobs = new Blobs();
  const hashes = pagesOf(BLOCK_BYTES / pageSize);
  let last = blobs.base({ pageSize, firstPage: 1, hashes }, undefined);
  blobs.pagesWritten = 0;
  for (let base = 0; base < 1000; base += 1) {
    hashes[random.integer(0, hashes.length - 1)] = drawn += 1n;
    last = blobs.base({ pageSize, firstPage: 1, hashes }, last);
    expect(last.table.patches.length).toBeLessThan(1000 / 16 + 8);
  }
  expect(blobs.pagesWritten).toBeLessThan(7 * 1000);
});
