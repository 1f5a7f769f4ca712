import { setImmediate as nextTurn } from "node:timers/promises";

import { byteString, parentPath, type TreePath } from "../../event/tree-path.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { invariant } from "../../runtime/invariant.ts";
import type { FileEntry, TreeEntry } from "../../tree/tree-index.ts";
import type { FileStager } from "./file-stager.ts";
import type { FilesState } from "./files-state.ts";
import { standbyPath } from "./standby-path.ts";
import type { Place, Touched } from "./touched-places.ts";
import type { TreeWriter } from "./tree-writer.ts";

const PLACES_PER_TURN = 128;

export interface FileShowerOptions {
  readonly state: FilesState;
  readonly stager: FileStager;
  readonly writer: TreeWriter;
}

/**
 * Brings the touched places from what they were to what the index says. In two halves, between which the commits of the
 * databases are shown: rows must not point at files that are not there yet, or not any more. Each half may be called again after it threw.
 */
export class FileShower {
  readonly #state: FilesState;
  readonly #stager: FileStager;
  readonly #writer: TreeWriter;
  #places = 0;

  constructor({ state, stager, writer }: FileShowerOptions) {
    this.#state = state;
    this.#stager = stager;
    this.#writer = writer;
  }

  /** Files, links and directories that are there now. */
  async puts(): Promise<void> {
    const { touched } = this.#state;
    const directories = new DirectoryTimes(this.#state, this.#writer);
    let names = false;
    await this.#stager.sync();
    crashPoint("files: staged");
    for (const place of touched.inOrder()) {
      const entry = this.#state.index.entry(place.tree, place.path);
      if (!entry) continue;
      directories.changed(place, entry);
      const ready = place.ready?.kind;
      if (ready !== "placed") names = !(await this.#put(place, entry)) || names;
      await this.#turn();
    }
    if (names) await this.#names();
    crashPoint("files: placed");
    await directories.set();
    this.#writer.rest();
  }

  /** What is there no more. The places are touched no longer. */
  async removals(): Promise<void> {
    const { touched, index } = this.#state;
    const directories = new DirectoryTimes(this.#state, this.#writer);
    for (const place of touched.backwards()) {
      if (index.entry(place.tree, place.path)) continue;
      this.#writer.remove(standbyPath(place.tree, place.path));
      crashPoint("files: removed");
      directories.changed(place);
      await this.#turn();
    }
    await directories.set();
    touched.clear();
    this.#stager.clear();
    this.#writer.rest();
  }

  /** False when it is to become another name of a file that may not be there yet. */
  async #put(place: Touched, entry: TreeEntry): Promise<boolean> {
    const at = standbyPath(place.tree, place.path);
    if (entry.kind === "dir") this.#writer.makeDirectory(at);
    else if (entry.kind === "link") this.#writer.placeLink(at, entry);
    else return this.#putFile(place, entry);
    this.#placed(place, entry);
    return true;
  }

  async #putFile(place: Touched, entry: FileEntry): Promise<boolean> {
    const at = standbyPath(place.tree, place.path);
    const ready = await this.#stager.prepare(place, entry, { durable: true });
    if (ready.kind === "name") return false;
    if (ready.kind === "staged") this.#writer.placeFile(at, this.#stager.pathOf(ready.number), entry.metadata);
    if (ready.kind === "metadata") this.#writer.setFileMetadata(at, entry.metadata);
    this.#placed(place, entry);
    crashPoint("files: one placed");
    return true;
  }

  /** Other names of files: a file is placed before them. */
  async #names(): Promise<void> {
    for (const place of this.#state.touched.inOrder()) {
      if (place.ready?.kind !== "name") continue;
      const entry = this.#state.index.entry(place.tree, place.path);
      invariant(entry?.kind === "file", "only files have other names");
      const at = standbyPath(place.tree, place.path);
      const twin = this.#stager.twinOf(place, entry, ({ kind }) => kind === "placed");
      if (twin === undefined) {
        const number = await this.#stager.stageAnyway(place, entry);
        this.#writer.placeFile(at, this.#stager.pathOf(number), entry.metadata);
      } else this.#writer.placeName(at, standbyPath(place.tree, twin));
      this.#placed(place, entry);
      await this.#turn();
    }
  }

  #placed(place: Place, entry: TreeEntry): void {
    this.#state.touched.setReady(place, { kind: "placed" }, entry.offset);
  }

  async #turn(): Promise<void> {
    this.#places += 1;
    if (this.#places % PLACES_PER_TURN === 0) await nextTurn();
  }
}

/** Directories whose metadata is to be set when all is in its place: each change of an entry changes their time. */
class DirectoryTimes {
  readonly #state: FilesState;
  readonly #writer: TreeWriter;
  readonly #directories = new Map<TreePath, Place>();

  constructor(state: FilesState, writer: TreeWriter) {
    this.#state = state;
    this.#writer = writer;
  }

  changed({ tree, path }: Place, entry?: TreeEntry): void {
    if (entry?.kind === "dir") this.#add({ tree, path });
    if (path !== "") this.#add({ tree, path: parentPath(path) });
  }

  async set(): Promise<void> {
    for (const at of [...this.#writer.takeMade(), ...this.#writer.takeLoosened()]) this.#addByStandbyPath(at);
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
    for (const at of this.#writer.takeLoosened().toReversed()) {
      const place = this.#placeOf(at);
      const entry = place && this.#state.index.entry(place.tree, place.path);
      if (entry?.kind === "dir") this.#writer.setDirectoryMetadata(at, entry.metadata);
    }
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
