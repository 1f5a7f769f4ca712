import { setImmediate as nextTurn } from "node:timers/promises";

import { byteString, parentPath, type TreePath } from "../../event/tree-path.ts";
import type { TreeEntry } from "../../tree/tree-index.ts";
import type { FilesState } from "./files-state.ts";
import type { SafeWalk } from "./safe-walk.ts";
import { standbyPath } from "./standby-path.ts";
import type { Place } from "./touched-places.ts";
import type { TreeWriter } from "./tree-writer.ts";

const PLACES_PER_TURN = 128;

export interface DirectoryTimesOptions {
  readonly state: FilesState;
  readonly writer: TreeWriter;
  readonly walk: SafeWalk;
}

/** Directories whose metadata is to be set when all is in its place: each change of an entry changes their time. */
export class DirectoryTimes {
  readonly #state: FilesState;
  readonly #writer: TreeWriter;
  readonly #walk: SafeWalk;
  readonly #directories = new Map<TreePath, Place>();

  constructor({ state, writer, walk }: DirectoryTimesOptions) {
    this.#state = state;
    this.#writer = writer;
    this.#walk = walk;
  }

  changed({ tree, path }: Place, entry?: TreeEntry): void {
    if (entry?.kind === "dir") this.#add({ tree, path });
    if (path !== "") this.#add({ tree, path: parentPath(path) });
  }

  /** Returns whether directories were missing on the way to others. */
  async set(): Promise<boolean> {
    const made = this.#writer.takeMade();
    for (const at of [...made, ...this.#walk.takeLoosened()]) this.#addByStandbyPath(at);
    // Innermost first: a directory may not be entered any more once it has its rights.
    const inOrder = [...this.#directories].sort(([one], [other]) => (one < other ? 1 : -1));
    let places = 0;
    for (const [at, { tree, path }] of inOrder) {
      const entry = this.#state.index.entry(tree, path);
      if (entry?.kind === "dir") this.#writer.setDirectoryMetadata(at, entry.metadata);
      places += 1;
      if (places % PLACES_PER_TURN === 0) await nextTurn();
    }
    // What had to be opened for this gets its rights back as well.
    for (const at of this.#walk.takeLoosened().toReversed()) {
      const place = this.#placeOf(at);
      const entry = place && this.#state.index.entry(place.tree, place.path);
      if (entry?.kind === "dir") this.#writer.setDirectoryMetadata(at, entry.metadata);
    }
    return made.length > 0;
  }

  #add(place: Place): void {
    this.#directories.set(standbyPath(place.tree, place.path), place);
  }

  #addByStandbyPath(at: TreePath): void {
    const place = this.#placeOf(at);
    if (place) this.#add(place);
  }

  #placeOf(at: TreePath): Place | undefined {
    for (const tree of this.#state.index.names()) {
      const root = byteString(Buffer.from(tree));
      if (at === root) return { tree, path: "" as TreePath };
      if (at.startsWith(`${root}/`)) return { tree, path: at.slice(root.length + 1) as TreePath };
    }
    return undefined;
  }
}
