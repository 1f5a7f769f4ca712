import { giveBack } from "../../runtime/give-back.ts";

const FIRST_CAPACITY = 2048;
/** Odd 32-bit constant (2^32 / golden ratio): neighbouring page numbers land far apart. */
const PAGE_NUMBER_FACTOR = 0x9e37_79b1;

/**
 * Page number -> slot of a spool file. A Map takes some 60 bytes an entry, and as much again for garbage while it grows:
 * 15 MB and more for a copy of 1 GiB. This hash table with linear probing takes 11 to 22.
 */
export class PageSlots {
  /** Page number and slot + 1, two words an entry. Page number 0: free. Slot + 1 = 0: deleted. */
  #table = new Uint32Array(2 * FIRST_CAPACITY);
  #used = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(pageNumber: number): number | undefined {
    const slotAfter = this.#table[this.#find(pageNumber) + 1] as number;
    return slotAfter === 0 ? undefined : slotAfter - 1;
  }

  set(pageNumber: number, slot: number): void {
    let at = this.#find(pageNumber);
    if (this.#table[at] === 0) {
      if (this.#isFull) {
        this.#grow();
        at = this.#find(pageNumber);
      }
      this.#used += 1;
    }
    if (this.#table[at + 1] === 0) this.#size += 1;
    this.#table[at] = pageNumber;
    this.#table[at + 1] = slot + 1;
  }

  /** Forgets the pages for which `wanted` is false. */
  filter(wanted: (pageNumber: number) => boolean): void {
    const table = this.#table;
    for (let at = 0; at < table.length; at += 2) {
      if (table[at + 1] === 0 || wanted(table[at] as number)) continue;
      table[at + 1] = 0;
      this.#size -= 1;
    }
  }

  /** Ascending. */
  pageNumbers(): Uint32Array {
    const pageNumbers = new Uint32Array(this.#size);
    let count = 0;
    for (let at = 0; at < this.#table.length; at += 2) {
      if (this.#table[at + 1] !== 0) pageNumbers[count++] = this.#table[at] as number;
    }
    return pageNumbers.sort();
  }

  get #isFull(): boolean {
    return this.#used * 8 >= this.#table.length * 3;
  }

  /** Where the page is, or else where it would go. */
  #find(pageNumber: number): number {
    const table = this.#table;
    const mask = table.length / 2 - 1;
    let index = (Math.imul(pageNumber, PAGE_NUMBER_FACTOR) >>> 8) & mask;
    while (table[2 * index] !== 0 && table[2 * index] !== pageNumber) index = (index + 1) & mask;
    return 2 * index;
  }

  #grow(): void {
    const old = this.#table;
    this.#table = new Uint32Array(2 * old.length);
    this.#used = this.#size;
    for (let at = 0; at < old.length; at += 2) {
      if (old[at + 1] === 0) continue;
      const to = this.#find(old[at] as number);
      this.#table[to] = old[at] as number;
      this.#table[to + 1] = old[at + 1] as number;
    }
    giveBack(old.buffer);
  }
}
