import { RecordProblem } from "../event/record-error.ts";
import { ownsLargeBuffer } from "../runtime/give-back.ts";
import { openEnvelope } from "./envelope.ts";
import type { ByteRange, ObjectStore } from "./object-store.ts";
import { locatingObject } from "./object-error.ts";
import type { EnvelopeThreads, EnvelopeToOpen } from "./envelope-threads.ts";
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

  /** What was sealed, proved to be that and under this name. It may be a view into `stored`. @throws as RepositorySealer.opening */
  async open(as: SealedAs, stored: Uint8Array): Promise<Uint8Array> {
    const isMuch = this.#isMuch(stored);
    const { raws } = await this.#openIn(isMuch ? new Uint8Array(stored) : stored, {
      isMuch,
      envelopes: [{ as, start: 0, bytes: stored.length, opened: await this.sealer.opening(as, stored) }],
    });
    return opened(raws[0]);
  }

  /**
   * The same of several that lie in `stored`, which nobody else needs any more. What was in them, in their order, may be
   * views into `memory`, and so may be nothing of it.
   */
  async openAll(
    stored: Uint8Array,
    envelopes: readonly PlacedEnvelope[],
    { unproved }: { readonly unproved: boolean },
  ): Promise<OpenedAll> {
    const toOpen = await Promise.all(
      envelopes.map(async ({ as, start, bytes, within }) => ({
        as,
        start,
        bytes,
        opened: {
          ...(await this.within(within, () => this.sealer.opening(as, stored.subarray(start, start + bytes)))),
          unproved,
        },
      })),
    );
    const isMuch = toOpen.some(isWork) && this.#isMuch(stored);
    const { memory, raws } = await this.#openIn(stored, { isMuch, envelopes: toOpen });
    const all = envelopes.map(({ within }, at) => this.within(within, () => opened(raws[at])));
    return { memory: memory.buffer, raws: await Promise.all(all) };
  }

  /** Of an envelope that nobody else needs any more: so many bytes from the beginning of what is in it, or more, though all of it is proved. `stored` comes back. */
  async openStart(
    as: SealedAs,
    given: Uint8Array,
    atLeast: number,
  ): Promise<{ readonly start: Uint8Array; readonly stored: Uint8Array }> {
    const envelope = {
      as,
      start: 0,
      bytes: given.length,
      opened: { ...(await this.sealer.opening(as, given)), atLeast },
    };
    const { memory: stored, raws } = await this.#openIn(given, { isMuch: this.#isMuch(given), envelopes: [envelope] });
    return { start: opened(raws[0]), stored };
  }

  #isMuch(stored: Uint8Array): boolean {
    this.#openedBytes += stored.length;
    return this.#threads !== undefined && this.#openedBytes > MUCH_BYTES && stored.length >= LARGE_BYTES;
  }

  async #openIn(
    stored: Uint8Array,
    { isMuch, envelopes }: { readonly isMuch: boolean; readonly envelopes: readonly EnvelopeToOpen[] },
  ): Promise<{ readonly memory: Uint8Array; readonly raws: readonly (Uint8Array | RecordProblem)[] }> {
    if (!isMuch || !this.#threads) return { memory: stored, raws: envelopes.map((one) => openHere(stored, one)) };
    const lent = ownsLargeBuffer(stored) ? stored : new Uint8Array(stored);
    const { memory, raws } = await this.#threads.open(lent.buffer as ArrayBuffer, envelopes);
    return { memory: new Uint8Array(memory), raws };
  }

  /** Bytes of an object that has several envelopes in it. */
  async range(name: string, range: ByteRange, signal: AbortSignal): Promise<Uint8Array> {
    return this.store.get(name, signal, range);
  }

  /** Where bytes of an object lie: see ObjectStore.inPlace. Not of what needs a key. */
  inPlace(name: string, range: ByteRange): string | undefined {
    return this.sealer.encrypted ? undefined : this.store.inPlace?.(name, range);
  }

  /** `work` on bytes of the object `name`, whose problems come out with that name. */
  async within<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    return locatingObject(this.#place(name), work);
  }

  #place(name: string): { location: string; name: string } {
    return { location: this.location, name };
  }
}

/** An envelope that lies in the same memory as others. */
export interface PlacedEnvelope {
  readonly as: SealedAs;
  readonly start: number;
  readonly bytes: number;
  /** For messages: the object, and what of it. */
  readonly within: string;
}

export interface OpenedAll {
  readonly memory: ArrayBufferLike;
  readonly raws: readonly Uint8Array[];
}

function isWork({ opened: { unproved, dataKey, head } }: EnvelopeToOpen): boolean {
  return !unproved || dataKey !== undefined || head.isCompressed;
}

function openHere(stored: Uint8Array, { as, start, bytes, opened: given }: EnvelopeToOpen): Uint8Array | RecordProblem {
  try {
    return openEnvelope(as, stored.subarray(start, start + bytes), given);
  } catch (error) {
    if (error instanceof RecordProblem) return error;
    throw error;
  }
}

function opened(raw: Uint8Array | RecordProblem | undefined): Uint8Array {
  if (raw instanceof Uint8Array) return raw;
  throw raw ?? new RecordProblem("nothing came of it");
}
