import os from "node:os";

import type { EventBody } from "../event/kinds.ts";
import { BEFORE_FIRST, type Offset } from "../event/positions.ts";
import type { LogWriter } from "../log/log-writer.ts";
import { sleep, type Clock } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { type TidemarkError, toTidemarkError } from "../runtime/errors.ts";

/** Commits stay events of their own while less than this is unacknowledged. */
const KEEPS_UP_BYTES = 1024 * 1024;
/** A database is sealed while less than this is unacknowledged: half of what the writer takes before it makes wait. */
const SEAL_SLACK_BYTES = 4 * 1024 * 1024;
/** A copy keeps less than this unacknowledged, so that a database that is written meanwhile can be sealed. */
const COPY_SLACK_BYTES = 3 * 1024 * 1024;

export interface CaptureFeedOptions {
  readonly writer: LogWriter;
  /** UUID of the agent's state. */
  readonly writerId: string;
  readonly clock: Clock;
  readonly heartbeatMs: number;
  /** An append was refused: nothing more can be sent. */
  readonly onFailure: (error: TidemarkError) => void;
}

/** What an agent sends to the log: everything its databases ship, and heartbeats. Knows how far the log is behind. */
export class CaptureFeed {
  readonly writer: LogWriter;
  readonly #options: CaptureFeedOptions;
  /** When each unacknowledged record was sent, oldest first. */
  readonly #unacknowledged: number[] = [];
  #failure: TidemarkError | undefined;
  #sentAtMs = 0;
  /** What was acknowledged when somebody last waited in vain. */
  #givenUpAt: Offset | undefined;

  constructor(options: CaptureFeedOptions) {
    this.writer = options.writer;
    this.#options = options;
  }

  /** How long the oldest unacknowledged record has been waiting, ms. */
  get lagMs(): number {
    const oldest = this.#unacknowledged[0];
    return oldest === undefined ? 0 : Math.round(this.#options.clock.monotonic() - oldest);
  }

  keepsUp(): boolean {
    return !this.#failure && this.writer.pendingBytes < KEEPS_UP_BYTES;
  }

  hasSlack(): boolean {
    return !this.#failure && this.writer.pendingBytes < SEAL_SLACK_BYTES;
  }

  /** Resolves when the log has room; rejects when it refused an append. */
  async room(): Promise<void> {
    if (this.#failure) throw this.#failure;
    await this.writer.room();
  }

  /** Resolves when a copy may send more; rejects when the log refused an append. */
  async slack(): Promise<void> {
    if (this.#failure) throw this.#failure;
    await this.writer.room(COPY_SLACK_BYTES);
  }

  /** Appends without waiting. @throws what the log refused an earlier append with */
  send(bodies: readonly EventBody[]): ReturnType<LogWriter["append"]> {
    if (this.#failure) throw this.#failure;
    const sent = this.writer.append(bodies);
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
    if (this.#failure) throw this.#failure;
    return this.writer.flush();
  }

  /**
   * Whether everything sent is acknowledged, within `patienceMs` when given. While a log acknowledges nothing only the first
   * is patient: each that gave up would stay with the promise that it waited for, for as long as the log is away.
   */
  async flushedWithin(patienceMs: number | undefined): Promise<boolean> {
    const { acknowledged, pendingBytes } = this.writer;
    if (patienceMs !== undefined && pendingBytes > 0 && this.#givenUpAt === acknowledged.offset) return false;
    const flushed = this.writer.flush().then(() => true);
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
    const { clock, heartbeatMs, writerId } = this.#options;
    while (!signal.aborted) {
      const dueMs = this.#sentAtMs + heartbeatMs - clock.monotonic();
      if (dueMs > 0) {
        await sleep(dueMs, signal);
        onBeat();
      } else if (this.writer.pendingBytes > 0) {
        await sleep(heartbeatMs, signal);
      } else {
        this.send([{ kind: "heartbeat", writer: writerId, host: os.hostname() }]);
        crashPoint("heartbeat: sent");
      }
    }
  }

  #fail(error: TidemarkError): void {
    this.#failure ??= error;
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
