import fs, { constants } from "node:fs";

import type { ByteString } from "../../event/tree-path.ts";

/**
 * Linux's O_PATH: a descriptor that names a file without opening it. It has no effect on FIFOs and devices, and to close it drops
 * no locks of SQLite's; what it names is opened through /proc, deleted or not.
 */
const O_PATH = 0o10000000;
/** What the kernel puts behind the last name of a file that has none any more. */
const DELETED = " (deleted)";
/** So many are closed together. */
const TOGETHER = 256;
/** The share of what the process may open. */
const HELD_SHARE = 0.25;
const LIMITS_FILE = "/proc/self/limits";

/** Undefined: it is gone again, or nothing more can be opened. */
export function holdFile(file: Buffer): number | undefined {
  try {
    return fs.openSync(file, O_PATH | constants.O_NOFOLLOW);
  } catch {
    return undefined;
  }
}

/** Descriptors that nobody needs any more. */
export class LetGo {
  #deleted: number[] = [];

  add(fd: number | undefined): void {
    if (fd === undefined) return;
    if (fs.fstatSync(fd).nlink > 0) fs.closeSync(fd);
    else this.#deleted.push(fd);
    if (this.#deleted.length >= TOGETHER) this.flush();
  }

  /** To close a deleted file is what deletes it, which takes its time: in other threads, many at once, for each time one wakes costs, too. */
  flush(): void {
    for (const fd of this.#deleted) fs.close(fd, () => undefined);
    this.#deleted = [];
  }
}

/** Where a held file stands by now, or stood last: it follows renames. Undefined: not known. */
export function whereIs(fd: number): { readonly file: ByteString; readonly isDeleted: boolean } | undefined {
  try {
    const isDeleted = fs.fstatSync(fd).nlink === 0;
    const file = fs.readlinkSync(`/proc/self/fd/${fd}`, { encoding: "latin1" });
    if (!file.endsWith(DELETED)) return { file, isDeleted };
    // With another name left it may be part of the name.
    return isDeleted ? { file: file.slice(0, -DELETED.length), isDeleted } : undefined;
  } catch {
    return undefined;
  }
}

/** How many files may be held at once, of `most`. */
export function heldLimit(most: number): number {
  return Math.min(most, Math.floor(openFilesLimit() * HELD_SHARE));
}

/** 1024 when it is not told. */
function openFilesLimit(): number {
  try {
    const limit = /^Max open files\s+(\d+)/mu.exec(fs.readFileSync(LIMITS_FILE, "utf8"))?.[1];
    return limit === undefined ? 1024 : Number(limit);
  } catch {
    return 1024;
  }
}
