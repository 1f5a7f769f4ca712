import { setImmediate as nextTurn } from "node:timers/promises";

import type { ManifestTree } from "../../repository/base.ts";
import type { BlobType } from "../../repository/sealer.ts";
import { TreeListCutter } from "../../repository/tree-list.ts";
import type { TreeIndex } from "../../tree/tree-index.ts";
import type { TreeContents } from "./tree-contents.ts";

const ENTRIES_PER_TURN = 64;

export interface TreeBaseOptions {
  readonly index: TreeIndex;
  readonly contents: TreeContents;
  /** Stores a blob and gives its name. */
  readonly store: (type: BlobType, data: Uint8Array) => Promise<Uint8Array>;
  readonly signal: AbortSignal;
}

/** Writes the entries of a tree, and the contents that the repository does not have. @throws what TreeContents throws */
export async function writeTree(tree: string, options: TreeBaseOptions): Promise<ManifestTree> {
  const { index, contents, store, signal } = options;
  const lists: Uint8Array[] = [];
  const cutter = new TreeListCutter();
  let count = 0;
  let bytes = 0;
  for (const entry of index.entries(tree)) {
    if (entry.kind === "file") {
      await contents.store(entry);
      bytes += entry.size;
    }
    for (const list of cutter.add(entry)) lists.push(await store("list", list));
    count += 1;
    if (count % ENTRIES_PER_TURN === 0) await nextTurn();
    signal.throwIfAborted();
  }
  const last = cutter.end();
  if (last) lists.push(await store("list", last));
  return { name: tree, lists, count, bytes };
}
