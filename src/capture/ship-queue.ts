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
  #ended = false;
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

  /** Nobody takes from it any more. */
  get hasEnded(): boolean {
    return this.#ended;
  }

  end(): void {
    this.#ended = true;
    this.refuse(stopped());
  }

  /** Nothing of what waits will be in the log. */
  refuse(error: TidemarkError): void {
    for (const { turn } of this.#queued) turn?.reject(error);
    this.wakeAll();
  }

  /** Keeps a copy: the memory of page images serves again. */
  put(body: EventBody, turn?: Turn): void {
    const kept = "pages" in body ? { ...body, pages: copyPages(body.pages) } : body;
    const bytes = BODY_BYTES + ("pages" in body ? body.pages.length * body.pageSize : 0);
    this.#queued.push({ body: kept, bytes, atMs: this.#clock.monotonic(), ...(turn && { turn }) });
    this.#bytes += bytes;
    // It stays counted: whoever flushes learns that it is not in the log.
    if (this.#ended) turn?.reject(stopped());
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

  /** What was taken is in the log, or as good as. */
  passed(): void {
    for (const { bytes } of this.#taken) this.#bytes -= bytes;
    this.#taken = [];
    this.wakeAll();
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

function copyPages(pages: readonly PageImage[]): PageImage[] {
  return pages.map(({ pageNumber, data }) => ({ pageNumber, data: Uint8Array.from(data) }));
}

/** The agent ended before what was put was in the log. */
export function stopped(): TidemarkError {
  return new TidemarkError("INTERRUPTED", "the agent was stopped before it was said", {
    hint: "Start it again, then repeat the command.",
  });
}
