import type { Clock } from "../runtime/clock.ts";
import type { BlobIndex } from "./blob-index.ts";
import { BlobReader } from "./blob-reader.ts";
import type { BlobFigures, BlobStore, BlobWriter } from "./blob-store.ts";
import type { BlobUse } from "./blob-use.ts";
import { IndexView } from "./index-view.ts";
import { PackWriter } from "./pack-writer.ts";
import type { SealedObjects } from "./sealed-objects.ts";

/** Blobs in packs, found by an index on the local disk. */
export class PackBlobStore implements BlobStore {
  readonly #objects: SealedObjects;
  readonly #index: BlobIndex;
  readonly #view: IndexView;
  readonly #reader: BlobReader;

  constructor(objects: SealedObjects, index: BlobIndex, clock: Clock) {
    this.#objects = objects;
    this.#index = index;
    this.#view = new IndexView(objects, index, clock);
    this.#reader = new BlobReader({ objects, index, refresh: async (signal) => this.refresh(signal) });
  }

  has(id: Uint8Array): boolean {
    return this.#index.has(id);
  }

  async refresh(signal: AbortSignal): Promise<void> {
    await this.#view.refresh(signal);
  }

  read(id: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    return this.#reader.read(id, signal);
  }

  readMany(
    ids: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, void> {
    return this.#reader.readMany(ids, signal);
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
