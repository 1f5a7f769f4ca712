import type { ByteRange, ObjectInfo, ObjectStore } from "./object-store.ts";

/** Of one store since it was opened. */
export interface StoreCounts {
  /** A page of a list counts as nothing of its own: how many there are only the store knows. */
  requests: number;
  bytesUp: number;
  bytesDown: number;
}

/** Counts what is asked of a store, also what fails. */
export class CountingStore implements ObjectStore {
  readonly location: string;
  readonly counts: StoreCounts = { requests: 0, bytesUp: 0, bytesDown: 0 };
  readonly #store: ObjectStore;

  constructor(store: ObjectStore) {
    this.#store = store;
    this.location = store.location;
  }

  async put(name: string, data: Uint8Array, signal: AbortSignal): Promise<void> {
    this.counts.requests += 1;
    await this.#store.put(name, data, signal);
    this.counts.bytesUp += data.length;
  }

  async get(name: string, signal: AbortSignal, range?: ByteRange): Promise<Uint8Array> {
    this.counts.requests += 1;
    const data = await this.#store.get(name, signal, range);
    this.counts.bytesDown += data.length;
    return data;
  }

  inPlace(name: string, range: ByteRange): string | undefined {
    const file = this.#store.inPlace?.(name, range);
    if (file === undefined) return undefined;
    this.counts.requests += 1;
    this.counts.bytesDown += range.bytes;
    return file;
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectInfo | undefined> {
    this.counts.requests += 1;
    return await this.#store.head(name, signal);
  }

  async *list(prefix: string, signal: AbortSignal, after?: string): AsyncGenerator<ObjectInfo, void, void> {
    this.counts.requests += 1;
    yield* this.#store.list(prefix, signal, after);
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    this.counts.requests += 1;
    await this.#store.remove(name, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }
}
