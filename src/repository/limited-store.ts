import { type Clock, sleep } from "../runtime/clock.ts";
import { type ByteRange, IN_PLACE_AT_ONCE, type ObjectInfo, type ObjectStore } from "./object-store.ts";

export interface LimitedOptions {
  /** Undefined = as fast as it goes. */
  readonly uploadBytesPerSecond: number | undefined;
  readonly downloadBytesPerSecond: number | undefined;
  /** Calls in flight at once; a list does not count. */
  readonly requests: number;
  readonly clock: Clock;
}

/** Keeps a store from taking all of a line, or of the other side. */
export class LimitedStore implements ObjectStore {
  readonly location: string;
  readonly #store: ObjectStore;
  readonly #slots: Slots;
  readonly #up: Pace;
  readonly #down: Pace;
  /** No limit holds up those who read in place. */
  readonly #isOpen: boolean;

  constructor(store: ObjectStore, options: LimitedOptions) {
    this.#store = store;
    this.#slots = new Slots(options.requests);
    this.#up = new Pace(options.uploadBytesPerSecond, options.clock);
    this.#down = new Pace(options.downloadBytesPerSecond, options.clock);
    this.#isOpen = options.downloadBytesPerSecond === undefined && options.requests >= IN_PLACE_AT_ONCE;
    this.location = store.location;
  }

  async put(name: string, data: Uint8Array, signal: AbortSignal): Promise<void> {
    using _ = await this.#slots.take(signal);
    await this.#up.turn(data.length, signal);
    await this.#store.put(name, data, signal);
  }

  /** How much the whole of an object is shows only afterwards; the next one waits the longer. */
  async get(name: string, signal: AbortSignal, range?: ByteRange): Promise<Uint8Array> {
    using _ = await this.#slots.take(signal);
    const known = range?.bytes ?? 0;
    await this.#down.turn(known, signal);
    const data = await this.#store.get(name, signal, range);
    this.#down.spend(data.length - known);
    return data;
  }

  /** Whoever reads in place waits for nobody. */
  inPlace(name: string, range: ByteRange): string | undefined {
    return this.#isOpen ? this.#store.inPlace?.(name, range) : undefined;
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectInfo | undefined> {
    using _ = await this.#slots.take(signal);
    return await this.#store.head(name, signal);
  }

  list(prefix: string, signal: AbortSignal, after?: string): AsyncIterable<ObjectInfo> {
    return this.#store.list(prefix, signal, after);
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    using _ = await this.#slots.take(signal);
    await this.#store.remove(name, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }
}

/** First come, first served. */
class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  async take(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#wait(signal);
    return { [Symbol.dispose]: () => this.#giveBack() };
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const give = (): void => resolve();
    const abandon = (): void => {
      // One that was given already is used, and the call itself sees the signal.
      if (this.#waiting.delete(give)) reject(signal.reason);
    };
    this.#waiting.add(give);
    signal.addEventListener("abort", abandon, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", abandon);
    }
  }

  #giveBack(): void {
    const [next] = this.#waiting;
    if (!next) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}

/** So many bytes a second on average. What is spent is waited for by the next. */
class Pace {
  readonly #bytesPerSecond: number | undefined;
  readonly #clock: Clock;
  #freeAtMs = 0;

  constructor(bytesPerSecond: number | undefined, clock: Clock) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#clock = clock;
  }

  /** @throws the signal's reason */
  async turn(bytes: number, signal: AbortSignal): Promise<void> {
    // Several wait for the same moment. The first of them moves it before the next one looks.
    for (;;) {
      signal.throwIfAborted();
      const waitMs = this.#freeAtMs - this.#clock.monotonic();
      if (waitMs <= 0) return this.spend(bytes);
      await sleep(waitMs, signal);
    }
  }

  spend(bytes: number): void {
    if (this.#bytesPerSecond === undefined) return;
    const beginMs = Math.max(this.#freeAtMs, this.#clock.monotonic());
    this.#freeAtMs = beginMs + (bytes / this.#bytesPerSecond) * 1000;
  }
}
