import fs from "node:fs";
import path from "node:path";

import type { OwnFiles } from "../../capture/files/own-files.ts";
import { fsPath, parentPath, shownPath, type TreePath } from "../../event/tree-path.ts";
import { makeDirectory, openReadable, syncDirectory, syncFileSystem } from "../../runtime/durable-directory.ts";
import { fileTime } from "../../tree/metadata.ts";
import type { TreeIndex } from "../../tree/tree-index.ts";
import { differencesOf, type FormerTree } from "./former-tree.ts";
import type { DivergedTree } from "./report.ts";

export interface SaveTreeOptions {
  readonly index: TreeIndex;
  readonly own: OwnFiles;
  /** Where what diverged goes; called when something did. */
  readonly directory: () => string;
  readonly signal: AbortSignal;
}

export interface SavedTree {
  /** Undefined: nothing differs. */
  readonly found: DivergedTree | undefined;
  /** What the log knows, and is something else or gone. */
  readonly differing: ReadonlySet<TreePath>;
  /** What the log knows nothing of. */
  readonly fresh: readonly TreePath[];
}

/** Copies what a tree has and the log has not, and lists what is gone. Durable when it returns. */
export async function saveTree(tree: FormerTree, options: SaveTreeOptions): Promise<SavedTree> {
  const saving = new Saving(tree, options.directory);
  const fresh: TreePath[] = [];
  const differing = new Set<TreePath>();
  for await (const { place, was } of differencesOf(tree, options)) {
    if (was === "new") fresh.push(place);
    else differing.add(place);
    if (was === "gone") saving.removed.push(place);
    else saving.copy(place);
  }
  return { found: await saving.end(), fresh, differing };
}

class Saving {
  readonly removed: TreePath[] = [];
  readonly #tree: FormerTree;
  readonly #directory: () => string;
  #files = 0;
  #bytes = 0;

  constructor(tree: FormerTree, directory: () => string) {
    this.#tree = tree;
    this.#directory = directory;
  }

  copy(place: TreePath): void {
    const stat = this.#tree.stat(place);
    if (!stat) return;
    const to = fsPath(this.#root(), place);
    fs.mkdirSync(place === "" ? path.dirname(this.#root()) : fsPath(this.#root(), parentPath(place)), {
      recursive: true,
    });
    if (stat.isDirectory()) return void fs.mkdirSync(to, { recursive: true });
    fs.rmSync(to, { force: true });
    const from = this.#tree.walk.place(this.#tree.at(place));
    if (stat.isSymbolicLink()) fs.symlinkSync(fs.readlinkSync(from, { encoding: "buffer" }), to);
    else if (stat.isFile()) copyFile(from, to, stat);
    this.#files += 1;
    this.#bytes += stat.isFile() ? Number(stat.size) : 0;
  }

  async end(): Promise<DivergedTree | undefined> {
    const { name } = this.#tree;
    if (this.#files + this.removed.length === 0) return undefined;
    const directory = path.dirname(this.#root());
    makeDirectory(directory, { mode: 0o700 });
    if (this.removed.length > 0) this.#list(`${this.#root()}.removed`);
    if (!(await syncFileSystem(directory))) syncDirectory(directory);
    return { name, files: this.#files, bytes: this.#bytes, removed: this.removed.length, directory: this.#root() };
  }

  #list(file: string): void {
    fs.writeFileSync(file, this.removed.map((place) => `${shownPath(place)}\n`).join(""), { mode: 0o600 });
    const fd = openReadable(file);
    fs.fsyncSync(fd);
    fs.closeSync(fd);
  }

  #root(): string {
    return path.join(this.#directory(), this.#tree.name);
  }
}

function copyFile(from: Buffer, to: Buffer, { mtimeNs }: fs.BigIntStats): void {
  fs.copyFileSync(from, to, fs.constants.COPYFILE_FICLONE);
  fs.chmodSync(to, 0o600);
  const fd = openReadable(to);
  try {
    fs.futimesSync(fd, fileTime(mtimeNs), fileTime(mtimeNs));
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
