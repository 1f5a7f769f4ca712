import fs from "node:fs";

import { parentPath, type TreePath } from "../../event/tree-path.ts";
import { syncDescriptor, syncFileSystem } from "../../runtime/durable-directory.ts";
import { errnoOf, hasCode } from "../../runtime/errors.ts";
import type { SafeWalk } from "./safe-walk.ts";

const AT_ONCE = 16;
/** From so many on one call for the whole file system is sooner done than one for each. */
const MANY = 1000;

/** Directories whose entries or metadata changed since they were made durable. */
export class ChangedDirectories {
  readonly #walk: SafeWalk;
  readonly #root: string;
  readonly #changed = new Set<TreePath>();

  constructor(walk: SafeWalk, root: string) {
    this.#walk = walk;
    this.#root = root;
  }

  get any(): boolean {
    return this.#changed.size > 0;
  }

  add(at: TreePath): void {
    this.#changed.add(at);
  }

  /** An entry of the directory that holds it. */
  addAbove(at: TreePath): void {
    this.#changed.add(parentPath(at));
  }

  gone(at: TreePath): void {
    this.#changed.delete(at);
  }

  /** May be called again after it threw. */
  async sync(): Promise<void> {
    if (this.#changed.size <= MANY || !(await syncFileSystem(this.#root))) {
      const all = [...this.#changed];
      for (let next = 0; next < all.length; next += AT_ONCE) {
        const opened = all.slice(next, next + AT_ONCE).flatMap((at) => this.#open(at) ?? []);
        await Promise.all(opened.map(syncAndClose));
      }
    }
    this.#changed.clear();
  }

  #open(at: TreePath): number | undefined {
    const open = (): number => fs.openSync(this.#walk.inside(at), "r");
    try {
      return open();
    } catch (error) {
      // Gone since, with everything that was in it; its own directory is synced.
      if (errnoOf(error) === "ENOENT" || hasCode(error, "PATH_UNSAFE")) return undefined;
      if (errnoOf(error) !== "EACCES") throw error;
      const directory = `/proc/self/fd/${this.#walk.directory(at)}`;
      const mode = fs.statSync(directory).mode & 0o7777;
      fs.chmodSync(directory, mode | 0o500);
      try {
        return open();
      } finally {
        fs.chmodSync(directory, mode);
      }
    }
  }
}

async function syncAndClose(fd: number): Promise<void> {
  try {
    await syncDescriptor(fd);
  } finally {
    fs.closeSync(fd);
  }
}
