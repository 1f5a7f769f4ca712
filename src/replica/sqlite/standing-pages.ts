import type Database from "better-sqlite3";

import { FRAME_HEADER_BYTES, frameByteOffset } from "../../format/wal.ts";
import { readEntries, readFilePages, type PageRange } from "../../sqlite/committed-pages.ts";
import type { LiveFiles } from "../../sqlite/live-files.ts";
import { readUpTo } from "../../sqlite/write-fully.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import type { StandbySnapshot } from "./wal-writer.ts";

export interface StandingPagesOptions {
  /** In a read transaction, on what `seen` says. */
  readonly connection: Database.Database;
  readonly files: LiveFiles;
  readonly pageSize: number;
  readonly seen: StandbySnapshot;
  readonly onEnd: (ended: StandingPages) => void;
}

/**
 * The pages of a standby database as they were at one moment, while more is appended: a read transaction of ours keeps
 * frames of that moment from being overwritten, and the database file from getting later ones. After a checkpoint that
 * emptied the WAL it holds read lock 0 and no frames are left to look for; where readers kept the WAL from being emptied
 * it works as well. Appended frames stay in the WAL until it is closed.
 */
export class StandingPages implements Disposable {
  readonly pageSize: number;
  readonly sizePages: number;
  readonly #connection: Database.Database;
  readonly #files: LiveFiles;
  readonly #onEnd: StandingPagesOptions["onEnd"];
  /** The last frame of each page that is not in the file yet. */
  readonly #frames = new Map<number, number>();
  #ended = false;

  constructor({ connection, files, pageSize, seen, onEnd }: StandingPagesOptions) {
    this.pageSize = pageSize;
    this.sizePages = seen.sizePages;
    this.#connection = connection;
    this.#files = files;
    this.#onEnd = onEnd;
    readEntries(files.shmFd, seen.frames).forEach((pageNumber, i) => {
      this.#frames.set(pageNumber, seen.frames.after + 1 + i);
    });
  }

  /** @throws BASE_ABANDONED when it was ended, because the WAL had to be emptied */
  read(firstPage: number, count: number): Uint8Array {
    const { pageSize } = this;
    if (this.#ended) throw abandoned(this.#files.path);
    const range: PageRange = { firstPage, count, pageSize };
    const bytes = readFilePages(this.#files, range);
    if (this.#frames.size === 0) return bytes;
    for (let i = 0; i < count; i += 1) {
      const frame = this.#frames.get(firstPage + i);
      if (frame === undefined) continue;
      const target = bytes.subarray(i * pageSize, (i + 1) * pageSize);
      readUpTo(this.#files.walFd, target, frameByteOffset(frame, pageSize) + FRAME_HEADER_BYTES);
    }
    return bytes;
  }

  /** Ends the read transaction. May be called twice. */
  [Symbol.dispose](): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#connection.close();
    this.#onEnd(this);
  }
}

function abandoned(path: string): TidemarkError {
  return new TidemarkError("BASE_ABANDONED", `the base was given up: the WAL of ${path} had to be emptied meanwhile`, {
    hint: "It is tried again by itself, and what was stored is not sent again. If it comes back: raise `standby: { walMax }`.",
  });
}
