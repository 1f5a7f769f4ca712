import fs from "node:fs";
import path from "node:path";

import { readUpTo, writeFully } from "../../sqlite/write-fully.ts";

/** Images are kept in memory up to this many bytes, then in a file. */
export const SPOOL_MEMORY_BYTES = 16 * 1024 * 1024;

let spoolCounter = 0;

/** The newest image of each page of one transaction, or of several that are applied as one. Memory is bounded. */
export class PageSpool {
  readonly pageSize: number;
  readonly #directory: string;
  readonly #memory = new Map<number, Uint8Array>();
  /** Page number -> slot of one page size in the file. */
  readonly #slots = new Map<number, number>();
  #fd: number | undefined;
  #usedSlots = 0;

  /** @param directory where a file goes if one is needed; it must exist */
  constructor(pageSize: number, directory: string) {
    this.pageSize = pageSize;
    this.#directory = directory;
  }

  /** Number of pages. */
  get size(): number {
    return this.#memory.size + this.#slots.size;
  }

  /** A later image of a page supersedes an earlier one. Copies `data`: a page must not keep a whole record alive. */
  put(pageNumber: number, data: Uint8Array): void {
    if (this.#fd === undefined && (this.#memory.size + 1) * this.pageSize > SPOOL_MEMORY_BYTES) this.#spill();
    if (this.#fd === undefined) {
      this.#memory.set(pageNumber, data.slice());
      return;
    }
    const slot = this.#slots.get(pageNumber) ?? this.#usedSlots++;
    writeFully(this.#fd, data, slot * this.pageSize);
    this.#slots.set(pageNumber, slot);
  }

  /** The image of a page that is in the spool. */
  get(pageNumber: number): Uint8Array {
    const inMemory = this.#memory.get(pageNumber);
    if (inMemory) return inMemory;
    const slot = this.#slots.get(pageNumber);
    if (slot === undefined || this.#fd === undefined) throw new RangeError(`page ${pageNumber} is not in the spool`);
    const data = new Uint8Array(this.pageSize);
    const length = readUpTo(this.#fd, data, slot * this.pageSize);
    if (length !== data.length) throw new RangeError(`the spool file ends within page ${pageNumber}`);
    return data;
  }

  /** In the order of the database, so that a checkpoint reads and writes forwards. */
  pageNumbers(): Uint32Array {
    const numbers = new Uint32Array(this.size);
    let at = 0;
    for (const pageNumber of this.#memory.keys()) numbers[at++] = pageNumber;
    for (const pageNumber of this.#slots.keys()) numbers[at++] = pageNumber;
    return numbers.sort();
  }

  /** Forgets pages beyond a size: a commit that shrinks the database drops them. */
  dropBeyond(sizePages: number): void {
    for (const pages of [this.#memory, this.#slots]) {
      for (const pageNumber of pages.keys()) if (pageNumber > sizePages) pages.delete(pageNumber);
    }
  }

  close(): void {
    if (this.#fd !== undefined) fs.closeSync(this.#fd);
    this.#fd = undefined;
    this.#memory.clear();
    this.#slots.clear();
  }

  #spill(): void {
    spoolCounter += 1;
    const file = path.join(this.#directory, `${process.pid}-${spoolCounter}`);
    const fd = fs.openSync(file, "wx+", 0o600);
    // Without a name it vanishes with the process, however that ends.
    fs.unlinkSync(file);
    this.#fd = fd;
    for (const [pageNumber, data] of this.#memory) {
      writeFully(fd, data, this.#usedSlots * this.pageSize);
      this.#slots.set(pageNumber, this.#usedSlots);
      this.#usedSlots += 1;
    }
    this.#memory.clear();
  }
}
