import path from "node:path";

import type { Offset } from "../../event/positions.ts";
import type { TreeIndex } from "../../tree/tree-index.ts";

export interface StandbyTree {
  readonly name: string;
  readonly path: string;
  readonly files: number;
  /** Every name of a file counted. */
  readonly bytes: number;
  /** Last event of the tree that is shown. */
  readonly offset: Offset;
}

/** What trees hold, as far as they are shown: counted once, then kept up. */
export class TreeFigures {
  readonly #root: string;
  readonly #trees = new Map<string, StandbyTree>();
  /** Newest event of each tree that is taken and not yet shown. */
  readonly #taken = new Map<string, Offset>();

  /** @param root of the standby */
  constructor(root: string) {
    this.#root = root;
  }

  get all(): readonly StandbyTree[] {
    return [...this.#trees.values()];
  }

  count(index: TreeIndex, offset: Offset): void {
    for (const name of index.names()) {
      this.#trees.set(name, { name, path: path.join(this.#root, name), ...index.totals(name), offset });
    }
  }

  took(name: string, offset: Offset): void {
    this.#taken.set(name, offset);
  }

  shown(growth: readonly { readonly tree: string; readonly files: number; readonly bytes: number }[]): void {
    for (const { tree: name, files, bytes } of growth) {
      const before = this.#trees.get(name);
      const offset = this.#taken.get(name) ?? before?.offset;
      if (offset === undefined) continue;
      this.#trees.set(name, {
        name,
        path: path.join(this.#root, name),
        files: (before?.files ?? 0) + files,
        bytes: (before?.bytes ?? 0) + bytes,
        offset,
      });
    }
    this.#taken.clear();
  }
}
