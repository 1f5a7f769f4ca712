import type { ByteRange, ObjectStore } from "./object-store.ts";
import { locatingObject } from "./object-error.ts";
import type { EnvelopeThreads } from "./envelope-threads.ts";
import type { RepositorySealer, SealedAs } from "./sealer.ts";

/** From here on threads are worth their start. */
const MUCH_BYTES = 16 * 1024 * 1024;
/** What is smaller is done sooner than sent to one. */
const LARGE_BYTES = 32 * 1024;

/** The objects of a repository as what is in them. */
export class SealedObjects {
  readonly store: ObjectStore;
  readonly sealer: RepositorySealer;
  readonly #threads: EnvelopeThreads | undefined;
  #openedBytes = 0;

  /** `threads`: they open what is large, when it is much. */
  constructor(store: ObjectStore, sealer: RepositorySealer, threads?: EnvelopeThreads) {
    this.store = store;
    this.sealer = sealer;
    this.#threads = threads;
  }

  get location(): string {
    return this.store.location;
  }

  /** Durable when it resolves; with its stored size. */
  async put(as: SealedAs, raw: Uint8Array, signal: AbortSignal): Promise<number> {
    const data = this.sealer.seal(as, raw);
    await this.store.put(as.name, data, signal);
    return data.length;
  }

  /** @throws OBJECT_MISSING, OBJECT_CORRUPT, REPOSITORY_VERSION, and what the store throws */
  async get<T>(as: SealedAs, signal: AbortSignal, decode: (raw: Uint8Array) => T): Promise<T> {
    const data = await this.store.get(as.name, signal);
    return locatingObject(this.#place(as.name), async () => decode(await this.open(as, data)));
  }

  /** As the sealer does. It may be a view into `stored`. */
  open(as: SealedAs, stored: Uint8Array): Promise<Uint8Array> {
    this.#openedBytes += stored.length;
    const isMuch = this.#openedBytes > MUCH_BYTES && stored.length >= LARGE_BYTES;
    return this.sealer.open(as, stored, isMuch ? this.#threads?.open : undefined);
  }

  /** Bytes of an object that has several envelopes in it. */
  async range(name: string, range: ByteRange, signal: AbortSignal): Promise<Uint8Array> {
    return this.store.get(name, signal, range);
  }

  /** `work` on bytes of the object `name`, whose problems come out with that name. */
  async within<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    return locatingObject(this.#place(name), work);
  }

  #place(name: string): { location: string; name: string } {
    return { location: this.location, name };
  }
}
