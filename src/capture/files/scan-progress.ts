import fs, { type Dirent } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";

import { byteString, fsPath, joinPath, type TreePath, TREE_ROOT } from "../../event/tree-path.ts";
import type { TreeEntries } from "./tree-entries.ts";

/** What a file costs beside its bytes, in bytes. */
const FILE_WEIGHT = 16 * 1024;

/** How far a scan is: of what the index knows, or of the files that a quick count finds. */
export class ScanProgress {
  readonly #report: (done: number, total: number) => void;
  #done = 0;
  #total: number;
  /** Nothing was known: bytes are counted as they come. */
  readonly #isFirst: boolean;

  constructor({ files, bytes }: Pick<TreeEntries, "files" | "bytes">, report: (done: number, total: number) => void) {
    this.#report = report;
    this.#isFirst = files === 0;
    this.#total = files * FILE_WEIGHT + bytes;
  }

  expect(files: number): void {
    this.#total += files * FILE_WEIGHT;
  }

  add(files: number, bytes: number): void {
    this.#done += files * FILE_WEIGHT + bytes;
    if (this.#isFirst) this.#total += bytes;
    this.#report(this.#done, Math.max(this.#done, this.#total));
  }
}

/** Counts what is in a tree, as far as it can be read, without a look at single files. */
export async function countTree(root: string, signal: AbortSignal, onFiles: (files: number) => void): Promise<void> {
  const pending: TreePath[] = [TREE_ROOT];
  for (let directory = pending.pop(); directory !== undefined && !signal.aborted; directory = pending.pop()) {
    const entries = entriesIn(root, directory);
    for (const entry of entries) if (entry.isDirectory()) pending.push(joinPath(directory, byteString(entry.name)));
    onFiles(entries.length);
    await nextTurn();
  }
}

function entriesIn(root: string, directory: TreePath): Dirent<Buffer>[] {
  try {
    return fs.readdirSync(fsPath(root, directory), { encoding: "buffer", withFileTypes: true });
  } catch {
    return [];
  }
}
