import type { BlobNames, BlobStore, UnprovedBlob } from "../repository/blob-store.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { LEAST_ENVELOPE_BYTES } from "../repository/envelope.ts";
import { giveBack, giveBackShare, isLarge, takeShares } from "../runtime/give-back.ts";
import type { BlobReader } from "./plan-base.ts";

/** Whether another repository would help: something in this one is damaged or missing, or it is away. */
export function isOfOneCopy(error: unknown): error is TidemarkError {
  return hasCode(error, "OBJECT_MISSING", "OBJECT_CORRUPT") || isAway(error);
}

/** Nothing more is to be had from this repository. */
export function isAway(error: unknown): error is TidemarkError {
  return hasCode(error, "STORE_UNREACHABLE", "STORE_DENIED");
}

/** The memory of a blob that was written, once, and of those that it shares it with when all of them were. */
export function freeBlob(data: Uint8Array): void {
  if (giveBackShare(data)) return;
  if (fills(data)) giveBack(data.buffer);
}

/** What of the memory of these blobs is nobody else's: it can be handed to a thread. The rest is as it was. */
export function takeMemory(blobs: readonly Uint8Array[]): Set<ArrayBuffer> {
  const taken = new Set<ArrayBuffer>();
  for (const [buffer, [first, ...others]] of Map.groupBy(blobs, (blob) => blob.buffer)) {
    const isAlone = others.length === 0 && first !== undefined && fills(first);
    if (isLarge(buffer) && (takeShares(buffer, 1 + others.length) || isAlone)) taken.add(buffer);
  }
  return taken;
}

function fills({ buffer, byteLength }: Uint8Array): boolean {
  return buffer.byteLength - byteLength <= LEAST_ENVELOPE_BYTES;
}

/** Undefined when what is read is damaged, missing or away. */
export async function unlessOfOneCopy<T>(
  read: () => Promise<T>,
  onDamage: (error: TidemarkError) => void = () => undefined,
): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (!isOfOneCopy(error)) throw error;
    onDamage(error);
    return undefined;
  }
}

/** The blobs of several repositories as one: those of the first, and of the others what is damaged or missing there. */
export class BlobCopies implements BlobReader {
  /** Without those that went away. */
  #copies: readonly BlobStore[];
  readonly #onDamage: (error: TidemarkError) => void;

  constructor(copies: readonly BlobStore[], onDamage: (error: TidemarkError) => void) {
    this.#copies = copies;
    this.#onDamage = onDamage;
  }

  read(id: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    return this.#readFrom(this.#copies, id, signal);
  }

  readMany(ids: BlobNames, signal: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    return this.#inOrder(ids, signal, (copy, names) => copy.readMany(names, signal));
  }

  readUnproved(ids: BlobNames, signal: AbortSignal): AsyncGenerator<UnprovedBlob, void, void> {
    return this.#inOrder<UnprovedBlob>(ids, signal, (copy, names) => copy.readUnproved(names, signal));
  }

  async *#inOrder<T>(
    ids: BlobNames,
    signal: AbortSignal,
    readFrom: (copy: BlobStore, names: AsyncGenerator<Uint8Array>) => AsyncGenerator<T, void, void>,
  ): AsyncGenerator<T | Uint8Array, void, void> {
    const names = Symbol.asyncIterator in ids ? ids[Symbol.asyncIterator]() : ids[Symbol.iterator]();
    /** Taken and not handed out yet. */
    let pending: Uint8Array[] = [];
    let failure: { readonly error: unknown } | undefined;
    const nextName = async (): Promise<IteratorResult<Uint8Array, unknown>> => {
      try {
        return await names.next();
      } catch (error) {
        failure = { error };
        throw error;
      }
    };
    const ahead = async function* (again: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
      for (const id of again) yield id;
      for (;;) {
        const next = await nextName();
        if (next.done) return;
        pending.push(next.value);
        yield next.value;
      }
    };
    for (;;) {
      const [first] = this.#copies;
      if (!first) return;
      try {
        for await (const data of readFrom(first, ahead([...pending]))) {
          pending.shift();
          yield data;
        }
        return;
      } catch (error) {
        if (failure || !isOfOneCopy(error) || this.#copies.length === 1) throw error;
        if (isAway(error)) {
          this.#leaveOut(first, error);
          continue;
        }
        if (pending.length === 0) throw error;
        // Any of them may have been it, and neighbours of what is gone are gone with it.
        const again = pending;
        pending = [];
        for (const id of again) yield await this.read(id, signal);
      }
    }
  }

  #leaveOut(away: BlobStore, error: TidemarkError): void {
    this.#copies = this.#copies.filter((copy) => copy !== away);
    this.#onDamage(error);
  }

  /** `left`: copies that were not tried yet. */
  async #readFrom(left: readonly BlobStore[], id: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const [copy, ...others] = left;
    if (!copy) throw nowhere(id);
    try {
      return await copy.read(id, signal);
    } catch (error) {
      if (!isOfOneCopy(error) || others.length === 0) throw error;
      if (isAway(error)) this.#leaveOut(copy, error);
      else if (copy.has(id)) this.#onDamage(error);
      return this.#readFrom(others, id, signal);
    }
  }
}

function nowhere(id: Uint8Array): TidemarkError {
  return new TidemarkError("OBJECT_MISSING", `no repository holds the blob ${Buffer.from(id).toString("hex")}`, {
    hint: "`tidemark verify` tells what is missing and what depends on it.",
  });
}
