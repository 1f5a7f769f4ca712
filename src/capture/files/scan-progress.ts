import fs from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";

import { fsPath, joinPath, type TreePath, TREE_ROOT } from "../../event/tree-path.ts";
import type { TreeEntries } from "./tree-entries.ts";

/** What a file costs beside its bytes, in bytes. */
const FILE_WEIGHT = 16 * 1024;
const FILES_A_TURN = 500;

/** How far a scan is: of what the index knows, or of what a quick count finds. */
export class ScanProgress {
  readonly #report: (done: number, total: number) => void;
  #done = 0;
  #total: number;

  constructor({ files, bytes }: Pick<TreeEntries, "files" | "bytes">, report: (done: number, total: number) => void) {
    this.#report = report;
    this.#total = files * FILE_WEIGHT + bytes;
  }

  expect(bytes: number): void {
    this.#total += FILE_WEIGHT + bytes;
  }

  add(files: number, bytes: number): void {
    this.#done += files * FILE_WEIGHT + bytes;
    this.#report(this.#done, Math.max(this.#done, this.#total));
  }
}

/** Sizes of the files of a tree, as far as it can be read. */
export async function countTree(root: string, signal: AbortSignal, onFile: (bytes: number) => void): Promise<void> {
  const pending: TreePath[] = [TREE_ROOT];
  let files = 0;
  for (let directory = pending.pop(); directory !== undefined && !signal.aborted; directory = pending.pop()) {
    for (const name of namesIn(root, directory)) {
      const path = joinPath(directory, name);
      const stat = statOf(root, path);
      if (stat?.isDirectory()) pending.push(path);
      else if (stat?.isFile()) onFile(stat.size);
      files += 1;
      if (files % FILES_A_TURN === 0) await nextTurn();
    }
  }
}

function namesIn(root: string, directory: TreePath): string[] {
  try {
    return fs.readdirSync(fsPath(root, directory), { encoding: "latin1" });
  } catch {
    return [];
  }
}

function statOf(root: string, path: TreePath): fs.Stats | undefined {
  try {
    return fs.lstatSync(fsPath(root, path), { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
