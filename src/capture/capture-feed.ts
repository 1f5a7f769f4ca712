import os from "node:os";

import type { PackedBody } from "../event/codec.ts";
import type { EventBody } from "../event/kinds.ts";
import { BEFORE_FIRST, type Offset } from "../event/positions.ts";
import type { LogWriter } from "../log/log-writer.ts";
import { sleep, type Clock } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { type TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import type { Sent, ShipQueue } from "./ship-queue.ts";

/** Commits stay events of their own while less than this is unacknowledged. */
const KEEPS_UP_BYTES = 1024 * 1024;
/** A database is sealed while less than this is unacknowledged: half of what the writer takes before it makes wait. */
const SEAL_SLACK_BYTES = 4 * 1024 * 1024;
/** A copy keeps less than this unacknowledged, so that a database that is written meanwhile can be sealed. */
const COPY_SLACK_BYTES = 3 * 1024 * 1024;
/** With a queue: what it and the writer hold together before databases wait. */
const ROOM_BYTES = 8 * 1024 * 1024;

export interface CaptureFeedOptions {
  readonly writer: LogWriter;
  /** UUID of the agent's state. */
  readonly writerId: string;
  readonly clock: Clock;
  readonly heartbeatMs: number;
  /** Where commits wait for the files that were written before them; undefined when the set has no file trees. */
  readonly queue?: ShipQueue | undefined;
  /** An append was refused: nothing more can be sent. */
  readonly onFailure: (error: TidemarkError) => void;
}

/** What an agent sends to the log: everything its databases and trees ship, and heartbeats. Knows how far the log is behind. */
export class CaptureFeed {
  readonly writer: LogWriter;
  readonly #options: CaptureFeedOptions;
  /** When each unacknowledged record was sent, oldest first. */
  readonly #unacknowledged: number[] = [];
  #failure: TidemarkError | undefined;
  #sentAtMs = 0;
  /** What was acknowledged when somebody last waited in vain. */
  #givenUpAt: Offset | undefined;
  #number = 0;

  constructor(options: CaptureFeedOptions) {
    this.writer = options.writer;
    this.#options = options;
  }

  /** How long the oldest unacknowledged record has been waiting, ms. */
  get lagMs(): number {
    const oldest = this.#unacknowledged[0] ?? this.#options.queue?.oldestMs;
    return oldest === undefined ? 0 : Math.round(this.#options.clock.monotonic() - oldest);
  }

  keepsUp(): boolean {
    return !this.#failure && this.#pendingBytes < KEEPS_UP_BYTES;
  }

  hasSlack(): boolean {
    return !this.#failure && this.#pendingBytes < SEAL_SLACK_BYTES;
  }

  /** Resolves when the log has room; rejects when it refused an append. */
  async room(): Promise<void> {
    await this.#roomBelow(undefined);
  }

  /** Resolves when a copy may send more; rejects when the log refused an append. */
  async slack(): Promise<void> {
    await this.#roomBelow(COPY_SLACK_BYTES);
  }

  get #pendingBytes(): number {
    return this.writer.pendingBytes + (this.#options.queue?.bytes ?? 0);
  }

  async #roomBelow(limitBytes: number | undefined): Promise<void> {
    const { queue } = this.#options;
    for (;;) {
      if (this.#failure) throw this.#failure;
      await this.writer.room(limitBytes);
      if (!queue || this.#pendingBytes < (limitBytes ?? ROOM_BYTES)) return;
      if (queue.refusal) throw queue.refusal;
      await queue.moved();
    }
  }

  /** A number that nothing had before, nor with an earlier agent: with a queue no offset, but where it may come to be. */
  nextNumber(): number {
    const { queue } = this.#options;
    if (!queue) return this.writer.head + 1;
    this.#number = Math.max(this.#number, this.writer.head + queue.count) + 1;
    return this.#number;
  }

  /** What a database says: at once, or behind the files that were written before. @throws as `send` */
  ship(body: EventBody): void {
    const { queue } = this.#options;
    // Parts show nothing before their commit, and need wait for no file.
    if (!queue || (body.kind === "sqlite.part" && queue.count === 0)) this.send([body]);
    else if (this.#failure) throw this.#failure;
    else queue.put(body);
  }

  /** Resolves when the record is sent, behind everything that was shipped before it. */
  async sendInTurn(body: EventBody): Promise<Sent> {
    const { queue } = this.#options;
    if (queue) return new Promise((resolve, reject) => queue.put(body, { resolve, reject }));
    const { offsets, acknowledged } = this.send([body]);
    const [offset] = offsets;
    invariant(offset !== undefined, "a record has an offset");
    return { offset, acknowledged };
  }

  /** Appends without waiting. @throws what the log refused an earlier append with */
  send(
    bodies: readonly (EventBody | PackedBody)[],
    options?: { readonly consistent: boolean },
  ): ReturnType<LogWriter["append"]> {
    if (this.#failure) throw this.#failure;
    const sent = this.writer.append(bodies, options);
    this.#sentAtMs = this.#options.clock.monotonic();
    this.#unacknowledged.push(this.#sentAtMs);
    sent.acknowledged.then(
      () => this.#unacknowledged.shift(),
      (error: unknown) => this.#fail(toTidemarkError(error)),
    );
    return sent;
  }

  /** Resolves with the acknowledged head when everything sent so far is in the log. */
  async flush(): Promise<Offset> {
    await this.#options.queue?.drained();
    if (this.#failure) throw this.#failure;
    return this.writer.flush();
  }

  /**
   * Whether everything sent is acknowledged, within `patienceMs` when given. While a log acknowledges nothing only the first
   * is patient: each that gave up would stay with the promise that it waited for, for as long as the log is away.
   */
  async flushedWithin(patienceMs: number | undefined): Promise<boolean> {
    const { acknowledged } = this.writer;
    if (patienceMs !== undefined && this.#pendingBytes > 0 && this.#givenUpAt === acknowledged.offset) return false;
    const flushed = this.flush().then(() => true);
    if (patienceMs === undefined) return flushed;
    flushed.catch(() => undefined);
    const cancel = new AbortController();
    const late = sleep(patienceMs, cancel.signal).then(() => false);
    const inTime = await Promise.race([flushed, late]).finally(() => cancel.abort());
    if (!inTime) this.#givenUpAt = acknowledged.offset;
    return inTime;
  }

  /** One heartbeat when nothing else was said, until `signal` aborts; `onBeat` is called now and then. */
  async beat(signal: AbortSignal, onBeat: () => void): Promise<void> {
    const { clock, heartbeatMs } = this.#options;
    while (!signal.aborted) {
      const dueMs = this.#sentAtMs + heartbeatMs - clock.monotonic();
      if (dueMs > 0) {
        await sleep(dueMs, signal);
        onBeat();
      } else if (this.#pendingBytes > 0) {
        await sleep(heartbeatMs, signal);
      } else {
        this.beatOnce();
      }
    }
  }

  beatOnce({
    consistent = false,
    ...asks
  }: { readonly consistent?: boolean; readonly asks?: "position" } = {}): ReturnType<LogWriter["append"]> {
    const sent = this.send([{ kind: "heartbeat", writer: this.#options.writerId, host: os.hostname(), ...asks }], {
      consistent,
    });
    crashPoint("heartbeat: sent");
    return sent;
  }

  #fail(error: TidemarkError): void {
    this.#failure ??= error;
    this.#options.queue?.refuse(this.#failure);
    this.#options.onFailure(this.#failure);
  }
}

/** What `status` says of a feed; nothing is sent before the log is open. */
export function feedStatus(feed: CaptureFeed | undefined): {
  offset: Offset;
  atMs: number;
  lagMs: number;
  epoch: number;
} {
  if (!feed) return { offset: BEFORE_FIRST, atMs: 0, lagMs: 0, epoch: 0 };
  const { acknowledged, epoch } = feed.writer;
  return { offset: acknowledged.offset, atMs: acknowledged.timeMs, lagMs: feed.lagMs, epoch };
}
