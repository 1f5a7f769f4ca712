import type { BlobIndex } from "./blob-index.ts";
import { BlobReader } from "./blob-reader.ts";
import type { BlobFigures, BlobStore, BlobWriter } from "./blob-store.ts";
import { PackWriter } from "./pack-writer.ts";
import { refreshIndex } from "./refresh-index.ts";
import type { SealedObjects } from "./sealed-objects.ts";

/** Blobs in packs, found by an index on the local disk. */
export class PackBlobStore implements BlobStore {
  readonly #objects: SealedObjects;
  readonly #index: BlobIndex;
  readonly #reader: BlobReader;

  constructor(objects: SealedObjects, index: BlobIndex) {
    this.#objects = objects;
    this.#index = index;
    this.#reader = new BlobReader({ objects, index, refresh: async (signal) => this.refresh(signal) });
  }

  has(id: Uint8Array): boolean {
    return this.#index.has(id);
  }

  async refresh(signal: AbortSignal): Promise<void> {
    await refreshIndex(this.#index, this.#objects, signal);
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
    return new PackWriter({ objects: this.#objects, index: this.#index, signal });
  }

  figures(): BlobFigures {
    return this.#index.figures();
  }
}
