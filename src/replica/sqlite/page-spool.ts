import fs from "node:fs";
import path from "node:path";

import { readUpTo, writeFully } from "../../sqlite/write-fully.ts";
import { crashPoint } from "../../runtime/crash-point.ts";

/** Images are kept in memory up to this many bytes, then in a file. */
export const SPOOL_MEMORY_BYTES = 4 * 1024 * 1024;
/** The file is written in pieces of this many bytes, and read ahead by as many when it is read in order. */
const PIECE_BYTES = 512 * 1024;

let spoolCounter = 0;

/** The newest image of each page of one transaction, or of several that are applied as one. Memory is bounded. */
export class PageSpool {
  readonly pageSize: number;
  readonly #directory: string;
  readonly #memory = new Map<number, Uint8Array>();
  /** What the images in memory are views of: a page keeps the whole record alive that it came in. */
  readonly #records = new Set<ArrayBufferLike>();
  #recordBytes = 0;
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

  /** A later image of a page supersedes an earlier one. `data` must stay as it is until the spool is closed. */
  put(pageNumber: number, data: Uint8Array): void {
    if (this.#file) return this.#file.put(pageNumber, data);
    this.#memory.set(pageNumber, data);
    if (this.#records.has(data.buffer)) return;
    this.#records.add(data.buffer);
    this.#recordBytes += data.buffer.byteLength;
    if (this.#recordBytes > SPOOL_MEMORY_BYTES) this.#spill();
  }

  /** The image of a page that is in the spool. Valid as long as nothing is put. */
  get(pageNumber: number): Uint8Array {
    const data = this.#file ? this.#file.get(pageNumber) : this.#memory.get(pageNumber);
    if (!data) throw new RangeError(`page ${pageNumber} is not in the spool`);
    return data;
  }

  /** In the order of the database, so that a checkpoint reads and writes forwards. */
  pageNumbers(): Uint32Array {
    return Uint32Array.from((this.#file?.slots ?? this.#memory).keys()).sort();
  }

  /** Forgets pages beyond a size: a commit that shrinks the database drops them. */
  dropBeyond(sizePages: number): void {
    const pages = this.#file?.slots ?? this.#memory;
    for (const pageNumber of pages.keys()) if (pageNumber > sizePages) pages.delete(pageNumber);
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
    this.#forget();
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
    this.#forget();
  }

  #forget(): void {
    this.#memory.clear();
    this.#records.clear();
    this.#recordBytes = 0;
  }
}

/** Images in a file without a name, in slots of one page size, in the order in which they came. */
class SpoolFile {
  /** Page number -> slot. */
  readonly slots = new Map<number, number>();
  readonly #pageSize: number;
  readonly #fd: number;
  readonly #perPiece: number;
  #usedSlots = 0;
  /** The slots from `#writtenSlots` on are not in the file yet but here. */
  readonly #piece: Uint8Array;
  #writtenSlots = 0;
  /** Slots read ahead. */
  #ahead: { readonly first: number; readonly bytes: Uint8Array } | undefined;
  #lastRead = -1;

  constructor(pageSize: number, directory: string) {
    spoolCounter += 1;
    const file = path.join(directory, `${process.pid}-${spoolCounter}`);
    this.#pageSize = pageSize;
    this.#perPiece = Math.floor(PIECE_BYTES / pageSize);
    this.#piece = new Uint8Array(this.#perPiece * pageSize);
    this.#fd = fs.openSync(file, "wx+", 0o600);
    // Without a name it vanishes with the process, however that ends.
    crashPoint("standby: spilled");
    fs.unlinkSync(file);
  }

  put(pageNumber: number, data: Uint8Array): void {
    this.#ahead = undefined;
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
    const ahead = this.#ahead;
    if (ahead && slot >= ahead.first && (slot - ahead.first) * this.#pageSize < ahead.bytes.length) {
      return this.#slotOf(ahead.bytes, slot - ahead.first);
    }
    const count = inOrder ? Math.min(this.#perPiece, this.#writtenSlots - slot) : 1;
    const bytes = new Uint8Array(count * this.#pageSize);
    const length = readUpTo(this.#fd, bytes, slot * this.#pageSize);
    if (length !== bytes.length) throw new RangeError(`the spool file ends within page ${pageNumber}`);
    this.#ahead = { first: slot, bytes };
    return this.#slotOf(bytes, 0);
  }

  close(): void {
    fs.closeSync(this.#fd);
  }

  #slotOf(bytes: Uint8Array, index: number): Uint8Array {
    return bytes.subarray(index * this.#pageSize, (index + 1) * this.#pageSize);
  }

  #flush(): void {
    writeFully(this.#fd, this.#piece, this.#writtenSlots * this.#pageSize);
    this.#writtenSlots = this.#usedSlots;
  }
}
