import { endianness } from "node:os";

import xxhash from "xxhash-wasm";

import { lockBytePage } from "../format/database-header.ts";
import { invariant } from "../runtime/invariant.ts";

const { h64Raw } = await xxhash();

/** Odd 64-bit constant (2^64 / golden ratio): spreads the page number over the seed. */
const PAGE_NUMBER_FACTOR = 0x9e37_79b9_7f4a_7c15n;

/**
 * Hash of one page image: xxh64 seeded with the set's secret seed and the page number, so that equal pages at
 * different places differ. u64, never 0 (0 means "no such page"). An xxh64 of 0 is mapped to 1.
 */
export function pageHash(seed: bigint, pageNumber: number, data: Uint8Array): bigint {
  const hash = h64Raw(data, BigInt.asUintN(64, seed + BigInt(pageNumber) * PAGE_NUMBER_FACTOR));
  return hash === 0n ? 1n : hash;
}

/**
 * Eight bytes a page: the hash of each page of one database as the log (or the standby) has it, and their sum.
 * The sum mod 2^64 over all pages but the lock-byte page is the rolling checksum of design.md section 6.
 */
export class PageIndex {
  readonly pageSize: number;
  readonly seed: bigint;
  #hashes: BigUint64Array;
  #sizePages = 0;
  #sum = 0n;
  readonly #dirtyBlocks = new Set<number>();
  /** Old hashes of what changed since `begin`, to take it back. */
  #undo: { readonly hashes: Map<number, bigint>; readonly sizePages: number } | undefined;

  constructor(pageSize: number, seed: bigint) {
    this.pageSize = pageSize;
    this.seed = seed;
    this.#hashes = new BigUint64Array(1024);
  }

  /** Number of pages of the database. */
  get sizePages(): number {
    return this.#sizePages;
  }

  /** Rolling checksum, u64. */
  get checksum(): bigint {
    return this.#sum;
  }

  /** 0n when the page is beyond the size or was never set. */
  hashOf(pageNumber: number): bigint {
    return pageNumber <= this.#sizePages ? (this.#hashes[pageNumber - 1] ?? 0n) : 0n;
  }

  /** Of every page, in order, as they are now. */
  hashes(): BigUint64Array {
    return this.#hashes.slice(0, this.#sizePages);
  }

  /** Records a page image; grows the size when the page is beyond it. Returns whether the content changed. */
  set(pageNumber: number, data: Uint8Array): boolean {
    return this.setHash(pageNumber, pageHash(this.seed, pageNumber, data));
  }

  setHash(pageNumber: number, hash: bigint): boolean {
    if (pageNumber === lockBytePage(this.pageSize)) return false;
    if (pageNumber > this.#sizePages) this.resize(pageNumber);
    return this.#replace(pageNumber, hash);
  }

  /** Of pages that follow each other, where nothing is to be taken back. 0n: of the lock-byte page, or there is none. */
  setHashes(firstPage: number, hashes: BigUint64Array): void {
    invariant(!this.#undo, "hashes are set one by one where they may be taken back");
    const end = firstPage - 1 + hashes.length;
    if (end > this.#sizePages) this.resize(end);
    const old = this.#hashes.subarray(firstPage - 1, end);
    this.#sum = BigInt.asUintN(64, this.#sum + sumOf(hashes) - sumOf(old));
    old.set(hashes);
    for (let block = blockOf(firstPage); block <= blockOf(end); block += 1) this.#dirtyBlocks.add(block);
  }

  #replace(pageNumber: number, hash: bigint): boolean {
    const old = this.#hashes[pageNumber - 1] as bigint;
    if (old === hash) return false;
    const undo = this.#undo;
    // Pages beyond the old size need no entry: a rollback drops them. So taking back a first copy costs no memory.
    if (undo && pageNumber <= undo.sizePages && !undo.hashes.has(pageNumber)) undo.hashes.set(pageNumber, old);
    this.#hashes[pageNumber - 1] = hash;
    this.#sum = BigInt.asUintN(64, this.#sum + hash - old);
    this.#dirtyBlocks.add(blockOf(pageNumber));
    return true;
  }

  /** From here on changes can be taken back with `rollback`, until `commit`. */
  begin(): void {
    this.#undo = { hashes: new Map(), sizePages: this.#sizePages };
  }

  commit(): void {
    this.#undo = undefined;
  }

  rollback(): void {
    const undo = this.#undo;
    if (!undo) return;
    this.#undo = undefined;
    this.resize(undo.sizePages);
    for (const [pageNumber, hash] of undo.hashes) this.#replace(pageNumber, hash);
  }

  /** Sets the database size: pages beyond it are forgotten, new ones have hash 0 until set. */
  resize(sizePages: number): void {
    for (let page = sizePages + 1; page <= this.#sizePages; page += 1) this.#replace(page, 0n);
    this.#sizePages = sizePages;
    if (sizePages <= this.#hashes.length) return;
    const grown = new BigUint64Array(Math.max(sizePages, Math.ceil(this.#hashes.length * 1.5)));
    grown.set(this.#hashes);
    this.#hashes = grown;
  }

  /** Page numbers without a hash: pages that grew and were in no frame. The lock-byte page is never among them. */
  missingPages(from = 1): number[] {
    const missing: number[] = [];
    const skip = lockBytePage(this.pageSize);
    for (let page = from; page <= this.#sizePages; page += 1) {
      if (this.#hashes[page - 1] === 0n && page !== skip) missing.push(page);
    }
    return missing;
  }

  /** Blocks of `PAGES_PER_BLOCK` hashes changed since the last call, for the store to persist. */
  takeDirtyBlocks(): { block: number; hashes: Uint8Array }[] {
    const blocks = [...this.#dirtyBlocks].map((block) => ({ block, hashes: this.#blockBytes(block) }));
    this.#dirtyBlocks.clear();
    return blocks;
  }

  /** What was taken was not stored after all: everything counts as changed again. */
  markAllDirty(): void {
    for (let page = 1; page <= this.#sizePages; page += PAGES_PER_BLOCK) this.#dirtyBlocks.add(blockOf(page));
  }

  /** Loads a block as `takeDirtyBlocks` gave it, without marking it dirty. Call `resize` first. */
  loadBlock(block: number, hashes: Uint8Array): void {
    const words = new BigUint64Array(Uint8Array.from(hashes).buffer);
    const firstPage = block * PAGES_PER_BLOCK + 1;
    for (let i = 0; i < words.length && firstPage + i <= this.#sizePages; i += 1) {
      const old = this.#hashes[firstPage + i - 1] as bigint;
      this.#hashes[firstPage + i - 1] = words[i] as bigint;
      this.#sum = BigInt.asUintN(64, this.#sum + (words[i] as bigint) - old);
    }
  }

  #blockBytes(block: number): Uint8Array {
    const start = block * PAGES_PER_BLOCK;
    const end = Math.min(start + PAGES_PER_BLOCK, this.#hashes.length);
    return new Uint8Array(this.#hashes.slice(start, end).buffer);
  }
}

/** mod 2^64. In halves: numbers are added without memory of their own, and exact up to 2^21 of them. */
function sumOf(hashes: BigUint64Array): bigint {
  const words = new Uint32Array(hashes.buffer, hashes.byteOffset, hashes.length * 2);
  let [even, odd] = [0, 0];
  for (let at = 0; at < words.length; at += 2) {
    even += words[at] as number;
    odd += words[at + 1] as number;
  }
  const [low, high] = endianness() === "LE" ? [even, odd] : [odd, even];
  return BigInt.asUintN(64, BigInt(low) + (BigInt(high) << 32n));
}

export const PAGES_PER_BLOCK = 512;

function blockOf(pageNumber: number): number {
  return Math.floor((pageNumber - 1) / PAGES_PER_BLOCK);
}
