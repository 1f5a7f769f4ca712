import fc from "fast-check";
import { expect, test } from "vitest";

import { lockBytePage } from "../../src/format/database-header.ts";
import { pageHash, PageIndex } from "../../src/sqlite/page-index.ts";

const SEED = 0x1234_5678_9abc_def0n;
const PAGE_SIZE = 512;

type Step = { readonly set: number; readonly fill: number } | { readonly resize: number };

const steps = fc.array(
  fc.oneof(
    fc.record({ set: fc.integer({ min: 1, max: 60 }), fill: fc.integer({ min: 0, max: 5 }) }),
    fc.record({ resize: fc.integer({ min: 0, max: 60 }) }),
  ),
  { maxLength: 60 },
);

function apply(index: PageIndex, model: Map<number, number>, step: Step): void {
  if ("resize" in step) {
    index.resize(step.resize);
    for (const page of model.keys()) if (page > step.resize) model.delete(page);
    return;
  }
  index.set(step.set, new Uint8Array(PAGE_SIZE).fill(step.fill));
  model.set(step.set, step.fill);
}

function sumOf(model: ReadonlyMap<number, number>): bigint {
  let sum = 0n;
  for (const [page, fill] of model) sum += pageHash(SEED, page, new Uint8Array(PAGE_SIZE).fill(fill));
  return sum & 0xffff_ffff_ffff_ffffn;
}

test("the rolling checksum is the sum over all pages, whatever was set, dropped and set again", () => {
  fc.assert(
    fc.property(steps, (all) => {
      const index = new PageIndex(PAGE_SIZE, SEED);
      const model = new Map<number, number>();
      for (const step of all) apply(index, model, step);
      expect(index.checksum).toBe(sumOf(model));
    }),
  );
});

test("what was begun can be taken back: checksum, size and every hash are as before", () => {
  fc.assert(
    fc.property(steps, steps, (before, taken) => {
      const index = new PageIndex(PAGE_SIZE, SEED);
      const model = new Map<number, number>();
      for (const step of before) apply(index, model, step);
      const { sizePages } = index;
      index.begin();
      for (const step of taken) apply(index, new Map(), step);
      index.rollback();
      expect(index.sizePages).toBe(sizePages);
      expect(index.checksum).toBe(sumOf(model));
      for (const [page, fill] of model) {
        expect(index.hashOf(page)).toBe(pageHash(SEED, page, new Uint8Array(PAGE_SIZE).fill(fill)));
      }
    }),
  );
});

test("equal pages at two places have different hashes, so that swapping them is seen", () => {
  const page = new Uint8Array(PAGE_SIZE).fill(7);
  expect(pageHash(SEED, 1, page)).not.toBe(pageHash(SEED, 2, page));
});

test("the lock-byte page is never part of the index, nor counted as missing", () => {
  const index = new PageIndex(65_536, SEED);
  const page = lockBytePage(65_536);
  index.resize(page + 1);
  expect(index.set(page, new Uint8Array(65_536))).toBe(false);
  expect(index.missingPages(page)).toEqual([page + 1]);
});

test("hashes of pages that follow each other are set at once as they are one by one", () => {
  const hash = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
  const run = fc.record({
    firstPage: fc.integer({ min: 1, max: 1500 }),
    hashes: fc.array(hash, { minLength: 1, maxLength: 60 }),
  });
  fc.assert(
    fc.property(fc.array(run, { maxLength: 20 }), (runs) => {
      const [atOnce, singly] = [new PageIndex(PAGE_SIZE, SEED), new PageIndex(PAGE_SIZE, SEED)];
      for (const { firstPage, hashes } of runs) {
        atOnce.setHashes(firstPage, BigUint64Array.from(hashes));
        for (const [at, one] of hashes.entries()) singly.setHash(firstPage + at, one);
        expect(atOnce.checksum).toBe(singly.checksum);
      }
      expect(atOnce.sizePages).toBe(singly.sizePages);
      expect(atOnce.hashes()).toEqual(singly.hashes());
      const blocks = (index: PageIndex): number[] => index.takeDirtyBlocks().map(({ block }) => block);
      // Those whose hashes were as they are, too.
      expect(new Set(blocks(atOnce)).isSupersetOf(new Set(blocks(singly)))).toBe(true);
    }),
  );
});
