import { retry } from "../runtime/retry.ts";
import type { ByteRange, ObjectInfo, ObjectStore } from "./object-store.ts";

export interface RetryingOptions {
  /** So often a call is tried, the first time included. */
  readonly attempts: number;
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
}

/** Some seconds: whoever calls decides what then. */
const USUAL: RetryingOptions = { attempts: 6, firstDelayMs: 200, maxDelayMs: 5_000 };

/** Tries again what can pass, a bounded number of times, later and later. The only place where calls are repeated. */
export class RetryingStore implements ObjectStore {
  readonly location: string;
  readonly #store: ObjectStore;
  readonly #options: RetryingOptions;

  constructor(store: ObjectStore, options: Partial<RetryingOptions> = {}) {
    this.#store = store;
    this.#options = { ...USUAL, ...options };
    this.location = store.location;
  }

  async put(name: string, data: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#retry(signal, async () => await this.#store.put(name, data, signal));
  }

  async get(name: string, signal: AbortSignal, range?: ByteRange): Promise<Uint8Array> {
    return await this.#retry(signal, async () => await this.#store.get(name, signal, range));
  }

  inPlace(name: string, range: ByteRange): string | undefined {
    return this.#store.inPlace?.(name, range);
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectInfo | undefined> {
    return await this.#retry(signal, async () => await this.#store.head(name, signal));
  }

  /** Goes on behind the last name that came. */
  async *list(prefix: string, signal: AbortSignal, after?: string): AsyncGenerator<ObjectInfo, void, void> {
    let last = after;
    let rest: AsyncIterator<ObjectInfo> | undefined;
    const next = async (): Promise<IteratorResult<ObjectInfo>> => {
      rest ??= this.#store.list(prefix, signal, last)[Symbol.asyncIterator]();
      try {
        return await rest.next();
      } catch (error) {
        rest = undefined;
        throw error;
      }
    };
    try {
      for (;;) {
        const found = await this.#retry(signal, next);
        if (found.done) return;
        last = found.value.name;
        yield found.value;
      }
    } finally {
      await rest?.return?.();
    }
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    await this.#retry(signal, async () => await this.#store.remove(name, signal));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }

  async #retry<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
    const { attempts, firstDelayMs, maxDelayMs } = this.#options;
    let failed = 0;
    const useful = (): boolean => ++failed < attempts;
    try {
      return await retry(attempt, { signal, firstDelayMs, maxDelayMs, useful });
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    }
  }
}
