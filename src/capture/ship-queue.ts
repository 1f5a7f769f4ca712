import type { EventBody, PageImage } from "../event/kinds.ts";
import type { Offset } from "../event/positions.ts";
import type { Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { Waker } from "../runtime/waker.ts";

/** About what a record costs beside its pages. */
const BODY_BYTES = 256;

/** Where a record is in the log; not acknowledged yet. */
export interface Sent {
  readonly offset: Offset;
  readonly acknowledged: Promise<Offset>;
}

/** Who waits until it is sent. */
type Turn = Pick<PromiseWithResolvers<Sent>, "resolve" | "reject">;

export interface Queued {
  readonly body: EventBody;
  readonly bytes: number;
  readonly atMs: number;
  readonly turn?: Turn;
  /** How many were put that this stands for. */
  readonly puts: number;
}

/**
 * What databases ship while the set has file trees: it waits here until the files that were written before it are in the
 * log. Whoever sends bounds it by waiting for room; a seal, which must not wait, does not.
 */
export class ShipQueue {
  readonly #clock: Clock;
  /** Whoever lets it pass is woken when something is put. */
  readonly waker = new Waker();
  #queued: Queued[] = [];
  /** Taken, and not in the log yet. */
  #taken: Queued[] = [];
  #bytes = 0;
  #putInAll = 0;
  #passedInAll = 0;
  /** Why nothing of what waits will be in the log. */
  #refusal: TidemarkError | undefined;
  #moved = Promise.withResolvers<void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Of what is not in the log yet. */
  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#queued.length + this.#taken.length;
  }

  /** Since when the oldest waits, monotonic. */
  get oldestMs(): number | undefined {
    return (this.#taken[0] ?? this.#queued[0])?.atMs;
  }

  /** Whether anything waits that was not taken. */
  get isEmpty(): boolean {
    return this.#queued.length === 0;
  }

  get refusal(): TidemarkError | undefined {
    return this.#refusal;
  }

  /** Nobody takes from it any more: the agent has ended. */
  end(): void {
    this.refuse(stopped());
  }

  /** Nothing of what waits, or comes, will be in the log. */
  refuse(error: TidemarkError): void {
    this.#refusal ??= error;
    for (const { turn } of this.#queued) turn?.reject(this.#refusal);
    this.wakeAll();
  }

  /** Keeps a copy: the memory of page images serves again. */
  put(body: EventBody, turn?: Turn): void {
    const kept = "pages" in body ? { ...body, pages: copyPages(body.pages) } : body;
    const bytes = bytesOf(body);
    this.#queued.push({ body: kept, bytes, puts: 1, atMs: this.#clock.monotonic(), ...(turn && { turn }) });
    this.#bytes += bytes;
    this.#putInAll += 1;
    // It stays counted: whoever flushes learns that it is not in the log.
    if (this.#refusal) turn?.reject(this.#refusal);
    this.waker.wake();
  }

  /** Everything that waits, and what was taken and has not passed. */
  take(): readonly Queued[] {
    this.#taken.push(...this.#queued.splice(0));
    return this.#taken;
  }

  get taken(): readonly Queued[] {
    return this.#taken;
  }

  /** What was taken becomes what `change` makes of it: less, so that there is room for more. */
  changeTaken(change: (bodies: readonly EventBody[]) => readonly EventBody[]): void {
    const before = new Map(this.#taken.map((one) => [one.body, one]));
    const atMs = this.#taken[0]?.atMs ?? 0;
    let puts = 0;
    for (const one of this.#taken) {
      this.#bytes -= one.bytes;
      puts += one.puts;
    }
    this.#taken = change([...before.keys()]).map((body) => {
      const bytes = bytesOf(body);
      this.#bytes += bytes;
      return { ...before.get(body), body, bytes, atMs, puts: 0 };
    });
    const last = this.#taken.pop();
    if (last) this.#taken.push({ ...last, puts });
    this.wakeAll();
  }

  /** What was taken is in the log, or as good as. */
  passed(): void {
    for (const { bytes, puts } of this.#taken) {
      this.#bytes -= bytes;
      this.#passedInAll += puts;
    }
    this.#taken = [];
    this.wakeAll();
  }

  /** Resolves when everything put so far has passed. @throws INTERRUPTED when it will not */
  async drained(): Promise<void> {
    const through = this.#putInAll;
    while (this.#passedInAll < through) {
      if (this.#refusal) throw this.#refusal;
      await this.moved();
    }
  }

  /** Resolves when something has passed, or nothing more will. */
  async moved(): Promise<void> {
    await this.#moved.promise;
  }

  wakeAll(): void {
    this.#moved.resolve();
    this.#moved = Promise.withResolvers();
  }
}

function bytesOf(body: EventBody): number {
  return BODY_BYTES + ("pages" in body ? body.pages.length * body.pageSize : 0);
}

function copyPages(pages: readonly PageImage[]): PageImage[] {
  return pages.map(({ pageNumber, data }) => ({ pageNumber, data: Uint8Array.from(data) }));
}

function stopped(): TidemarkError {
  return new TidemarkError("INTERRUPTED", "the agent was stopped before it was said", {
    hint: "Start it again, then repeat the command.",
  });
}
