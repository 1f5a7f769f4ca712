import fs, { type BigIntStats } from "node:fs";
import path from "node:path";

import { realPath } from "../../config/real-path.ts";
import { byteString, type TreePath } from "../../event/tree-path.ts";
import type { InodeKey } from "./early-read-protocol.ts";

/** What belongs to a database and must never be opened beside SQLite: closing it would drop this process's locks. */
const SUFFIXES = ["", "-wal", "-shm", "-journal"];
/** The databases are looked up again after this long. */
const FRESH_MS = 1_000;

export interface OwnFilesOptions {
  /** Paths of the databases of the set; more may join. */
  readonly databases: () => readonly string[];
  /** Directories of ours: state, standby, log, repository. */
  readonly directories: readonly string[];
  /** Monotonic ms. */
  readonly now: () => number;
}

/** What lies in a tree and is no part of it: the databases of the set, and what agents write themselves. */
export class OwnFiles {
  readonly #options: OwnFilesOptions;
  #root = "";
  #paths = new Map<TreePath, string>();
  /** A hard link to a database, or another mount of it, is that database. */
  #inodes = new Set<InodeKey>();
  #lookedAtMs = -Infinity;

  constructor(options: OwnFilesOptions) {
    this.#options = options;
  }

  /** Looks them up, seen from the tree at `root`, a real path. */
  refresh(root: string): void {
    const { databases, directories, now } = this.#options;
    if (root === this.#root && now() - this.#lookedAtMs < FRESH_MS) return;
    this.#root = root;
    this.#lookedAtMs = now();
    this.#paths = new Map();
    this.#inodes = new Set();
    for (const directory of directories) this.#add(realPath(directory), "a directory of Tidemark's own");
    for (const database of databases()) {
      for (const suffix of SUFFIXES) this.#add(`${realPath(database)}${suffix}`, "a database of the set");
    }
  }

  /** What it is, when it is one of them. */
  find(at: TreePath, { ino, dev }: BigIntStats): string | undefined {
    if (this.#inodes.size === 0) return undefined;
    return (
      this.#paths.get(at) ??
      (this.#inodes.has(`${dev}:${ino}`) ? "a database of the set, or Tidemark's own" : undefined)
    );
  }

  /** Another set after every look at them. */
  get inodes(): ReadonlySet<InodeKey> {
    return this.#inodes;
  }

  /** Whether one of them has this path. */
  has(at: TreePath): boolean {
    return this.#paths.has(at);
  }

  #add(file: string, what: string): void {
    const relative = path.relative(this.#root, file);
    const isInside = !path.isAbsolute(relative) && relative.split(path.sep)[0] !== "..";
    if (isInside) this.#paths.set(byteString(Buffer.from(relative)) as TreePath, what);
    const stat = fs.lstatSync(file, { bigint: true, throwIfNoEntry: false });
    if (stat) this.#inodes.add(`${stat.dev}:${stat.ino}`);
  }
}
