import type { ByteRange, ObjectStore } from "./object-store.ts";
import { locatingObject } from "./object-error.ts";
import type { RepositorySealer, SealedAs } from "./sealer.ts";

/** The objects of a repository as what is in them. */
export class SealedObjects {
  readonly store: ObjectStore;
  readonly sealer: RepositorySealer;

  constructor(store: ObjectStore, sealer: RepositorySealer) {
    this.store = store;
    this.sealer = sealer;
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
    return locatingObject(this.#place(as.name), async () => decode(await this.sealer.open(as, data)));
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
