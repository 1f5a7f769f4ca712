import type { Clock } from "../runtime/clock.ts";
import type { BlobIndex } from "./blob-index.ts";
import { BlobReader } from "./blob-reader.ts";
import type { BlobFigures, BlobNames, BlobStore, BlobWriter, UnprovedBlob } from "./blob-store.ts";
import type { BlobUse } from "./blob-use.ts";
import { IndexView } from "./index-view.ts";
import { findUnnamed } from "./refresh-index.ts";
import { PackWriter } from "./pack-writer.ts";
import type { SealedObjects } from "./sealed-objects.ts";

/** Whoever misses a blob looks for packs that no index object names so often at most. */
const SEARCH_MS = 60_000;

/** Blobs in packs, found by an index on the local disk. */
export class PackBlobStore implements BlobStore {
  readonly #objects: SealedObjects;
  readonly #index: BlobIndex;
  readonly #view: IndexView;
  readonly #reader: BlobReader;
  readonly #clock: Clock;
  #searchedMs = -Infinity;

  constructor(objects: SealedObjects, index: BlobIndex, clock: Clock) {
    this.#objects = objects;
    this.#index = index;
    this.#view = new IndexView(objects, index, clock);
    this.#clock = clock;
    this.#reader = new BlobReader({
      objects,
      index,
      refresh: (signal) => this.refresh(signal),
      search: (signal) => this.#searchNowAndThen(signal),
    });
  }

  has(id: Uint8Array): boolean {
    return this.#index.has(id);
  }

  async refresh(signal: AbortSignal): Promise<void> {
    await this.#view.refresh(signal);
  }

  async search(signal: AbortSignal): Promise<void> {
    await findUnnamed(this.#index, { objects: this.#objects, signal });
  }

  /** Many blobs may be missing. */
  async #searchNowAndThen(signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.monotonic();
    if (nowMs - this.#searchedMs < SEARCH_MS) return;
    await this.search(signal);
    this.#searchedMs = nowMs;
  }

  read(id: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    return this.#reader.read(id, signal);
  }

  readMany(ids: BlobNames, signal: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    return this.#reader.readMany(ids, signal);
  }

  readUnproved(ids: BlobNames, signal: AbortSignal): AsyncGenerator<UnprovedBlob, void, void> {
    return this.#reader.readUnproved(ids, signal);
  }

  writer(signal: AbortSignal): BlobWriter {
    return new PackWriter({ objects: this.#objects, index: this.#index, view: this.#view, signal });
  }

  figures(): BlobFigures {
    return this.#index.figures();
  }

  marked(prefix: string): ReadonlySet<string> {
    return this.#index.marked(prefix);
  }

  use(): BlobUse {
    return this.#index.use();
  }
}
