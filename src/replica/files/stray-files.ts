import { setImmediate as nextTurn } from "node:timers/promises";

import { byteString, joinPath, type TreePath } from "../../event/tree-path.ts";
import type { TreeIndex } from "../../tree/tree-index.ts";
import type { StandbyParts } from "./standby-parts.ts";
import { standbyPath } from "./standby-path.ts";
import type { TreeReader } from "./tree-reader.ts";

/** What stands in a directory of a tree and is not in the index, by name. */
export function straysIn(index: TreeIndex, reader: TreeReader, place: { tree: string; path: TreePath }): TreePath[] {
  const { tree, path } = place;
  return reader
    .list(standbyPath(tree, path))
    .map((name) => joinPath(path, byteString(name)))
    .filter((at) => index.entry(tree, at) === undefined);
}

/** Removes from all trees what the log knows nothing of. */
export async function removeStrays({
  state: { index },
  reader,
  writer,
}: Pick<StandbyParts, "state" | "reader" | "writer">): Promise<void> {
  for (const tree of index.names()) {
    for (const entry of index.entries(tree)) {
      if (entry.kind !== "dir") continue;
      const strays = straysIn(index, reader, entry);
      for (const at of strays) writer.remove(standbyPath(tree, at));
      if (strays.length > 0) writer.setDirectoryMetadata(standbyPath(tree, entry.path), entry.metadata);
      await nextTurn();
    }
  }
}
