import { setImmediate as nextTurn } from "node:timers/promises";

import { crashPoint } from "../../runtime/crash-point.ts";
import { invariant } from "../../runtime/invariant.ts";
import type { TreePath } from "../../event/tree-path.ts";
import type { FileEntry, TreeEntry } from "../../tree/tree-index.ts";
import { DirectoryTimes } from "./directory-times.ts";
import type { FileStager } from "./file-stager.ts";
import type { FilesState } from "./files-state.ts";
import type { SafeWalk } from "./safe-walk.ts";
import { standbyPath } from "./standby-path.ts";
import type { Place, Touched } from "./touched-places.ts";
import type { TreeWriter } from "./tree-writer.ts";

const PLACES_PER_TURN = 128;

export interface FileShowerOptions {
  readonly state: FilesState;
  readonly stager: FileStager;
  readonly writer: TreeWriter;
  readonly walk: SafeWalk;
}

/**
 * Brings the touched places from what they were to what the index says. In two halves, between which the commits of the
 * databases are shown: rows must not point at files that are not there yet, or not any more. Each half may be called again after it threw.
 */
export class FileShower {
  readonly #state: FilesState;
  readonly #stager: FileStager;
  readonly #writer: TreeWriter;
  readonly #walk: SafeWalk;
  #places = 0;
  #missed = false;

  constructor({ state, stager, writer, walk }: FileShowerOptions) {
    this.#state = state;
    this.#stager = stager;
    this.#writer = writer;
    this.#walk = walk;
  }

  /** Files, links and directories that are there now. */
  async puts(): Promise<void> {
    const { touched } = this.#state;
    const directories = new DirectoryTimes({ state: this.#state, writer: this.#writer, walk: this.#walk });
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
    if (await directories.set()) this.#missed = true;
    this.#walk.rest();
  }

  /** What is there no more. The places are touched no longer. */
  async removals(): Promise<void> {
    const { touched, index } = this.#state;
    const directories = new DirectoryTimes({ state: this.#state, writer: this.#writer, walk: this.#walk });
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
    this.#walk.rest();
  }

  /** Gives directories back the rights that were changed to look into them. */
  async restoreRights(): Promise<void> {
    await new DirectoryTimes({ state: this.#state, writer: this.#writer, walk: this.#walk }).set();
    this.#walk.rest();
  }

  /** Whether something was not there that should have been and was not put back, since the last call. */
  takeMissed(): boolean {
    const missed = this.#missed;
    this.#missed = false;
    return missed;
  }

  /** False when it is to become another name of a file that may not be there yet. */
  async #put(place: Touched, entry: TreeEntry): Promise<boolean> {
    const at = standbyPath(place.tree, place.path);
    if (entry.kind === "dir") this.#makeDirectory(place, at);
    else if (entry.kind === "link") this.#writer.placeLink(at, entry);
    else return this.#putFile(place, entry);
    this.#placed(place, entry);
    return true;
  }

  /** One that the index knew and that is not there took more with it than is put there now. */
  #makeDirectory(place: Touched, at: TreePath): void {
    const holds = (): boolean => place.wasKnown && this.#state.touched.hasUnchangedBelow(place);
    if (this.#writer.makeDirectory(at, holds) && holds()) this.#missed = true;
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
