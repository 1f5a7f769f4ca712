import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import type { LogEvent } from "../event/kinds.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { writeFully } from "../sqlite/write-fully.ts";
import type { Place, TreeItem, TreePlan } from "./tree-plan.ts";
import { TreePlaces } from "./tree-places.ts";

/** Files that are kept open: the chunks of one mostly come one behind the other, those of several may alternate. */
const OPEN_FILES = 64;
const NOTHING = new Uint8Array(1024 * 1024);
const { O_WRONLY, O_CREAT, O_NOFOLLOW } = fs.constants;

/**
 * Writes the contents of a plan's files as the records come by that carry them. Nothing that a log says can lead out of
 * the directory: it is empty at first, and no symbolic link is made before everything else is there.
 */
export class TreeBuilder implements Disposable {
  readonly #plan: TreePlan;
  readonly #places: TreePlaces;
  /** By item, the one that was used last at the end. */
  readonly #open = new Map<number, number>();

  constructor(plan: TreePlan, places: TreePlaces) {
    this.#plan = plan;
    this.#places = places;
    for (const item of plan.items()) if (item.kind === "dir") this.#places.makeDirectory(item);
  }

  /** @throws RECORD_INVALID when a record's content is not the one that it names */
  take({ offset, body }: LogEvent): void {
    if (body.kind !== "file.chunk" && body.kind !== "file.put") return;
    const places = this.#plan.placesOf(offset);
    if (places.length === 0) return;
    const data = contentOf(body, offset);
    for (const place of places) this.#write(place, data, offset);
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open.values()) fs.closeSync(fd);
    this.#open.clear();
  }

  #write({ item, position, bytes }: Place, data: Uint8Array): void {
    // A hole reads as zeros and takes no room; the file's size is made right at the end.
    if (isZero(data)) return;
    writeFully(this.#fd(item), data, position);
  }
}
