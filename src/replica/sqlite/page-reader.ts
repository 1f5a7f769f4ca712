import fs from "node:fs";

import type { WalIndexHeader } from "../../format/wal-index.ts";
import { FRAME_HEADER_BYTES, frameByteOffset } from "../../format/wal.ts";
import type { LiveFiles } from "../../sqlite/live-files.ts";
import { readUpTo } from "./write-fully.ts";
import { readEntries } from "./wal-index-writer.ts";

/**
 * Pages as SQLite's readers see them at one state of the wal-index: from the last frame that holds the page, else
 * from the database file. Valid while a read transaction begun at that state is open.
 */
export class PageReader {
  readonly #files: LiveFiles;
  readonly #pageSize: number;
  readonly #frames = new Map<number, number>();
  readonly sizePages: number;

  constructor(files: LiveFiles, header: WalIndexHeader, pageSize: number) {
    this.#files = files;
    this.#pageSize = pageSize;
    const pageNumbers = readEntries(files.shmFd, header.mxFrame);
    for (let i = 0; i < pageNumbers.length; i += 1) this.#frames.set(pageNumbers[i] as number, i + 1);
    // 0 right after a recovery that found no commit: then the file itself is the size.
    this.sizePages = header.sizePages || Math.floor(fs.fstatSync(files.databaseFd).size / pageSize);
  }

  /** Fills `target` (one page) and returns it; a page beyond the end of the file reads as zeros. */
  read(pageNumber: number, target: Uint8Array): Uint8Array {
    const frame = this.#frames.get(pageNumber);
    const length =
      frame === undefined
        ? readUpTo(this.#files.databaseFd, target, (pageNumber - 1) * this.#pageSize)
        : readUpTo(this.#files.walFd, target, frameByteOffset(frame, this.#pageSize) + FRAME_HEADER_BYTES);
    return length < target.length ? target.fill(0, length) : target;
  }
}
