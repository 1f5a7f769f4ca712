import type { TreePath } from "../../event/tree-path.ts";
import type { Identity } from "./tree-seam.ts";
import type { TreeWatch } from "./tree-watch.ts";

/** Which directories of a tree come to be watched, and when: what goes before that is not announced. */
export class Entering {
  readonly #watch: TreeWatch;
  /** Watched since they were announced, and not met by a look since. */
  readonly #early = new Set<TreePath>();
  /** Some were watched for the first time by a look or a scan. */
  #isLate = false;

  constructor(watch: TreeWatch) {
    this.#watch = watch;
  }

  /** At the announcement of a directory: what comes and goes in it until it is looked at would not be seen. */
  early(directory: TreePath, identity: Identity): boolean {
    if (!this.#watch.enter(directory, identity) || !this.#watch.watches(directory)) return false;
    this.#early.add(directory);
    return true;
  }

  /** By a look or a scan. True: it is to be listed. */
  met(directory: TreePath, identity: Identity): boolean {
    const entered = this.#watch.enter(directory, identity);
    if (entered && this.#watch.watches(directory)) this.#isLate = true;
    return this.#early.delete(directory) || entered;
  }

  /** Whether something may have gone before it was watched, since this was asked last. */
  takeLate(): boolean {
    const isLate = this.#isLate;
    this.#isLate = false;
    return isLate;
  }

  /** Directories that are gone before a look met them are watched no more. */
  leaveVanished(isThere: (directory: TreePath) => boolean): void {
    const vanished = [...this.#early].filter((directory) => !isThere(directory));
    this.#watch.leave(new Set(vanished));
    for (const directory of vanished) this.#early.delete(directory);
  }
}
