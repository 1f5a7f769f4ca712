import fs from "node:fs";
import path from "node:path";

import { readUpTo, writeFully } from "../../sqlite/write-fully.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { giveBack } from "../../runtime/give-back.ts";
import { PageSlots } from "./page-slots.ts";

/** Images are kept in memory up to this many bytes, then in a file. */
export const SPOOL_MEMORY_BYTES = 4 * 1024 * 1024;
/** The file is written in pieces of this many bytes, and read ahead by as many when it is read in order. */
const PIECE_BYTES = 512 * 1024;

let spoolCounter = 0;

/** The newest image of each page of one transaction, or of several that are applied as one. Memory is bounded. */
export class PageSpool {
  readonly pageSize: number;
  readonly #directory: string;
  #memory = new Map<number, Uint8Array>();
  #file: SpoolFile | undefined;

  /** @param directory where a file goes if one is needed; it must exist */
  constructor(pageSize: number, directory: string) {
    this.pageSize = pageSize;
    this.#directory = directory;
  }

  /** Number of pages. */
  get size(): number {
    return this.#file?.slots.size ?? this.#memory.size;
  }

  /** A later image of a page supersedes an earlier one. */
  put(pageNumber: number, data: Uint8Array): void {
    if (this.#file) return this.#file.put(pageNumber, data);
    // A view of it would keep the whole record alive that it came in.
    this.#memory.set(pageNumber, new Uint8Array(data));
    if (this.#memory.size * this.pageSize > SPOOL_MEMORY_BYTES) this.#spill();
  }

  /** The image of a page that is in the spool. Valid until the next call. */
  get(pageNumber: number): Uint8Array {
    const data = this.#file ? this.#file.get(pageNumber) : this.#memory.get(pageNumber);
    if (!data) throw new RangeError(`page ${pageNumber} is not in the spool`);
    return data;
  }

  /** In the order of the database, so that a checkpoint reads and writes forwards. */
  pageNumbers(): Uint32Array {
    return this.#file ? this.#file.slots.pageNumbers() : Uint32Array.from(this.#memory.keys()).sort();
  }

  /** Forgets the pages for which `wanted` is false. */
  filter(wanted: (pageNumber: number) => boolean): void {
    this.#file?.slots.filter(wanted);
    for (const pageNumber of this.#memory.keys()) if (!wanted(pageNumber)) this.#memory.delete(pageNumber);
  }

  /** Takes over the images of `later`, which is empty then; they supersede those here. */
  absorb(later: PageSpool): void {
    if (this.size > 0) {
      for (const pageNumber of later.pageNumbers()) this.put(pageNumber, later.get(pageNumber));
      return later.close();
    }
    this.close();
    this.#file = later.#file;
    later.#file = undefined;
    this.#memory = later.#memory;
    later.#memory = new Map();
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
    this.#memory.clear();
  }

  /** When there is no room on the disk everything stays in memory, and the page that was put stays put. */
  #spill(): void {
    const file = new SpoolFile(this.pageSize, this.#directory);
    try {
      for (const [pageNumber, data] of this.#memory) file.put(pageNumber, data);
    } catch (error) {
      file.close();
      throw error;
    }
    this.#file = file;
    this.#memory.clear();
  }
}

/** Images in a file without a name, in slots of one page size, in the order in which they came. */
class SpoolFile {
  /** Page number -> slot. */
  readonly slots = new PageSlots();
  readonly #pageSize: number;
  readonly #fd: number;
  readonly #perPiece: number;
  #usedSlots = 0;
  /** The slots from `#writtenSlots` on are not in the file yet but here. */
  readonly #piece: Uint8Array;
  #writtenSlots = 0;
  /** Slots read ahead, `#aheadCount` of them from `#aheadFirst` on. */
  readonly #ahead: Uint8Array;
  #aheadFirst = 0;
  #aheadCount = 0;
  #lastRead = -1;

  constructor(pageSize: number, directory: string) {
    spoolCounter += 1;
    const file = path.join(directory, `${process.pid}-${spoolCounter}`);
    this.#pageSize = pageSize;
    this.#perPiece = Math.floor(PIECE_BYTES / pageSize);
    this.#piece = new Uint8Array(this.#perPiece * pageSize);
    this.#ahead = new Uint8Array(this.#perPiece * pageSize);
    this.#fd = fs.openSync(file, "wx+", 0o600);
    // Without a name it vanishes with the process, however that ends.
    crashPoint("standby: spilled");
    fs.unlinkSync(file);
  }

  put(pageNumber: number, data: Uint8Array): void {
    this.#aheadCount = 0;
    const known = this.slots.get(pageNumber);
    if (known !== undefined && known < this.#writtenSlots) {
      return writeFully(this.#fd, data, known * this.#pageSize);
    }
    if (known === undefined && this.#usedSlots - this.#writtenSlots === this.#perPiece) this.#flush();
    const slot = known ?? this.#usedSlots++;
    this.#piece.set(data, (slot - this.#writtenSlots) * this.#pageSize);
    this.slots.set(pageNumber, slot);
  }

  get(pageNumber: number): Uint8Array | undefined {
    const slot = this.slots.get(pageNumber);
    if (slot === undefined) return undefined;
    const inOrder = slot === this.#lastRead + 1;
    this.#lastRead = slot;
    if (slot >= this.#writtenSlots) return this.#slotOf(this.#piece, slot - this.#writtenSlots);
    const isAhead = slot >= this.#aheadFirst && slot < this.#aheadFirst + this.#aheadCount;
    if (!isAhead) this.#readAhead(slot, inOrder ? Math.min(this.#perPiece, this.#writtenSlots - slot) : 1);
    return this.#slotOf(this.#ahead, slot - this.#aheadFirst);
  }

  close(): void {
    fs.closeSync(this.#fd);
    giveBack(this.#piece.buffer);
    giveBack(this.#ahead.buffer);
  }

  #readAhead(first: number, count: number): void {
    this.#aheadCount = 0;
    const bytes = this.#ahead.subarray(0, count * this.#pageSize);
    const length = readUpTo(this.#fd, bytes, first * this.#pageSize);
    if (length !== bytes.length) throw new RangeError(`the spool file ends within slot ${first}`);
    this.#aheadFirst = first;
    this.#aheadCount = count;
  }

  #slotOf(bytes: Uint8Array, index: number): Uint8Array {
    return bytes.subarray(index * this.#pageSize, (index + 1) * this.#pageSize);
  }

  #flush(): void {
    writeFully(this.#fd, this.#piece, this.#writtenSlots * this.#pageSize);
    this.#writtenSlots = this.#usedSlots;
  }
}
