import { AckPolicy, DeliverPolicy } from "@nats-io/jetstream";
import { createInbox, type Msg, type Subscription } from "@nats-io/transport-node";
import { type Offset, offset } from "../event/positions.ts";
import { sleep, systemClock } from "../runtime/clock.ts";
import { hasCode } from "../runtime/errors.ts";
import { Waker } from "../runtime/waker.ts";
import type { ReadOptions, StoredRecord } from "./change-log.ts";
import { toLogError } from "./jetstream-connection.ts";
import { assertHeld, lookAgain } from "./jetstream-look.ts";
import { boundsOf, messageAt, type OpenStream } from "./jetstream-stream.ts";
import { gapError, purgedError, unreachableError } from "./log-errors.ts";

/** By bytes, not by count: the server cuts off a consumer that has much more than this under way. */
const PULL_BYTES = 16 * 1024 * 1024;
const PULL_MESSAGES = 65_536;
const PULL_EXPIRES_MS = 60_000;
/** Two and a half of these in silence, and the consumer is taken for lost: a server that dies takes its consumers along without a word. */
const IDLE_HEARTBEAT_MS = 2_000;
/**
 * A consumer can say that it is alive and bring nothing, though there is more: when the server it lives on has fallen behind
 * the others of its cluster. A writer that lives appends a heartbeat sooner than this (every 10 s by default).
 */
const BARREN_MS = 15_000;
/** One that was begun and has brought nothing yet gets less time, and each one after it twice as much. */
const FIRST_PATIENCE_MS = 1_500;
/** The server forgets a consumer that nobody asked for this long. */
const INACTIVE_MS = 120_000;
const FIRST_DELAY_MS = 50;
const MAX_DELAY_MS = 5_000;
const AGREED_LOOKS = 5;
const AGREED_PAUSE_MS = 20;
const NANOS = 1_000_000;

export interface ReadStreamOptions extends ReadOptions {
  readonly idleHeartbeatMs?: number | undefined;
  /** After so long without a record another consumer is begun. */
  readonly barrenMs?: number | undefined;
}

/**
 * Reads with an ephemeral pull consumer. Whatever goes wrong with the consumer, the connection or the server, the answer
 * is the same: look at the stream (is it still the same, does it still hold what comes next?) and begin a new consumer
 * right after the last record that was yielded.
 */
export async function* readStream(
  stream: OpenStream,
  after: Offset,
  options: ReadStreamOptions,
): AsyncGenerator<readonly StoredRecord[]> {
  const { signal, follow } = options;
  const progress = { position: after, through: follow ? Number.MAX_SAFE_INTEGER : undefined };
  let delayMs = FIRST_DELAY_MS;
  let patienceMs = FIRST_PATIENCE_MS;
  let doubtful = false;
  while (!signal.aborted && progress.position < (progress.through ?? Infinity)) {
    const patience = { ...options, patienceMs };
    patienceMs = Math.min(patienceMs * 2, BARREN_MS);
    try {
      if (doubtful) await assertHeld(stream, offset(progress.position + 1));
      await using pull = await PullConsumer.begin(stream, progress.position, patience);
      progress.through ??= pull.last;
      for (let batch = await pull.next(progress); batch; batch = await pull.next(progress)) {
        delayMs = FIRST_DELAY_MS;
        patienceMs = FIRST_PATIENCE_MS;
        doubtful = false;
        yield batch;
      }
    } catch (thrown) {
      const error = toLogError(thrown, stream.location);
      if (signal.aborted) return;
      // A consumer that brings nothing is no reason to give up a restore: others may, before the patience is at its end.
      const another = follow || (stream.connection.up && patience.patienceMs < BARREN_MS);
      if (!another || !hasCode(error, "LOG_UNREACHABLE") || stream.connection.failure) throw error;
      await sleep(delayMs, signal);
      delayMs = Math.min(delayMs * 2, MAX_DELAY_MS);
      await stream.connection.settled(signal);
      doubtful = true;
    }
  }
}

interface Progress {
  /** Of the last record handed out. */
  position: Offset;
  /** Where to end. */
  through: number | undefined;
}

interface Consumer {
  readonly name: string;
  readonly last: Offset;
  /** Most messages that a pull may ask for. */
  readonly batch: number;
  /** Of a stream that several servers hold. */
  readonly isReplicated: boolean;
}

interface PullOptions extends ReadStreamOptions {
  /** How long the consumer may take to bring its first record before another one is tried. */
  readonly patienceMs: number;
}

/** One ephemeral consumer and the pull that is open on it. Throws when it is of no use any more. */
class PullConsumer implements AsyncDisposable {
  /** Head of the stream when the consumer began. */
  readonly last: Offset;
  readonly #stream: OpenStream;
  readonly #name: string;
  readonly #batch: number;
  readonly #isReplicated: boolean;
  readonly #options: PullOptions;
  readonly #waker = new Waker();
  readonly #inbox = createInbox();
  readonly #messages: Subscription;
  readonly #listening: Disposable;
  #arrived: StoredRecord[] = [];
  /** How many messages the open pull may still bring; 0 when there is none. The last one ends it without a word. */
  #awaited = 0;
  #lost: string | undefined;
  #patienceMs: number;
  /** When it last brought something, or was last asked to. */
  #recordAtMs = systemClock.monotonic();

  private constructor(stream: OpenStream, options: PullOptions, consumer: Consumer) {
    this.#stream = stream;
    this.#options = options;
    this.#patienceMs = options.patienceMs;
    this.#name = consumer.name;
    this.#batch = consumer.batch;
    this.#isReplicated = consumer.isReplicated;
    this.last = consumer.last;
    const { connection } = stream;
    this.#messages = connection.nats.subscribe(this.#inbox, {
      callback: (error, message) => this.#receive(error, message),
    });
    this.#listening = connection.onChange(() => {
      if (!connection.up) this.#lose("the connection is lost");
      if (connection.denial(this.#pullSubject)) this.#lose("reading is not permitted");
    });
    options.signal.addEventListener("abort", this.#wake);
  }

  static async begin(stream: OpenStream, after: Offset, options: PullOptions): Promise<PullConsumer> {
    const found = await lookAgain(stream, after);
    const { first, last } = boundsOf(found);
    const isReplicated = found.config.num_replicas > 1;
    if (first > last && last > after) throw purgedError(stream.location, after + 1, last);
    if (first > after + 1) throw gapError(stream.location, after + 1, first);
    const info = await stream.connection.manager.consumers.add(stream.name, {
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: after + 1 - stream.base,
      inactive_threshold: INACTIVE_MS * NANOS,
      mem_storage: true,
    });
    // A server may limit how many messages a pull asks for (max_request_batch), and says so here.
    const batch = Math.min(PULL_MESSAGES, info.config.max_batch || PULL_MESSAGES);
    return new PullConsumer(stream, options, { name: info.name, last, batch, isReplicated });
  }

  /** The records that are there, waiting for at least one; undefined when the end is reached or the signal aborted. */
  async next(progress: Progress): Promise<readonly StoredRecord[] | undefined> {
    const through = progress.through ?? Infinity;
    while (!this.#options.signal.aborted && progress.position < through) {
      const arrived = this.#arrived;
      if (arrived.length > 0) {
        this.#arrived = [];
        await this.#requireAgreed(arrived);
        return this.#checked(arrived, progress);
      }
      const denial = this.#stream.connection.denial(this.#pullSubject);
      if (denial) throw denial;
      if (this.#lost) throw unreachableError(this.#stream.location, this.#lost);
      if (this.#awaited === 0) this.#pull();
      const woken = await this.#waker.wait(this.#heartbeatMs * 2.5);
      if (!woken) this.#lose("the server went silent");
      const barrenMs = systemClock.monotonic() - this.#recordAtMs;
      if (this.#arrived.length === 0 && barrenMs > this.#patienceMs)
        this.#lose(`nothing came for ${Math.round(barrenMs)} ms`);
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#options.signal.removeEventListener("abort", this.#wake);
    this.#listening[Symbol.dispose]();
    if (!this.#messages.isClosed()) this.#messages.unsubscribe();
    const { connection, name } = this.#stream;
    // When it cannot be deleted the server does it by itself after INACTIVE_MS.
    if (connection.up) await connection.manager.consumers.delete(name, this.#name).catch(() => false);
  }

  readonly #wake = (): void => this.#waker.wake();

  get #heartbeatMs(): number {
    return this.#options.idleHeartbeatMs ?? IDLE_HEARTBEAT_MS;
  }

  get #pullSubject(): string {
    return `$JS.API.CONSUMER.MSG.NEXT.${this.#stream.name}.${this.#name}`;
  }

  #pull(): void {
    this.#awaited = this.#batch;
    // The time that our reader took over the last batch does not count.
    this.#recordAtMs = systemClock.monotonic();
    const request = {
      batch: this.#batch,
      max_bytes: PULL_BYTES,
      expires: PULL_EXPIRES_MS * NANOS,
      idle_heartbeat: this.#heartbeatMs * NANOS,
    };
    this.#stream.connection.nats.publish(this.#pullSubject, JSON.stringify(request), {
      reply: this.#inbox,
    });
  }

  /**
   * In a cluster the consumer may live on a server that holds what the others never agreed on: all servers of 2.9.10 killed in the
   * same moment left that behind. Only the leader answers who asks by number, and a record names the one before it: so the
   * newest one that came vouches for all. @throws LOG_UNREACHABLE: another consumer may live elsewhere
   */
  async #requireAgreed(arrived: readonly StoredRecord[]): Promise<void> {
    const newest = arrived.at(-1);
    if (!this.#isReplicated || !newest) return;
    for (let look = 1; look <= AGREED_LOOKS; look += 1) {
      const agreed = await messageAt(this.#stream, newest.offset);
      if (agreed && Buffer.compare(agreed, newest.data) === 0) return;
      if (agreed) break;
      // The leader may be behind for a moment.
      await sleep(AGREED_PAUSE_MS, this.#options.signal);
    }
    throw unreachableError(
      this.#stream.location,
      `the server that was read from has another record at offset ${newest.offset} than the one that leads`,
    );
  }

  #checked(arrived: readonly StoredRecord[], progress: Progress): readonly StoredRecord[] {
    const through = progress.through ?? Infinity;
    const batch: StoredRecord[] = [];
    for (const record of arrived) {
      if (progress.position >= through) break;
      const expected = offset(progress.position + 1);
      if (record.offset !== expected) throw gapError(this.#stream.location, expected, record.offset);
      progress.position = expected;
      batch.push(record);
    }
    return batch;
  }

  #receive(error: Error | null, message: Msg): void {
    if (error) return this.#lose(error.message);
    const status = isRecord(message) ? 0 : (message.headers?.code ?? 0);
    if (status === 0) this.#receiveRecord(message);
    else if (status !== STATUS.heartbeat) this.#endPull(status, message.headers?.description ?? "");
    this.#waker.wake();
  }

  #receiveRecord(message: Msg): void {
    const at = streamSequence(message.reply ?? "");
    if (at === undefined) return this.#lose(`a message without stream sequence (${message.reply})`);
    this.#awaited = Math.max(0, this.#awaited - 1);
    this.#recordAtMs = systemClock.monotonic();
    this.#patienceMs = this.#options.barrenMs ?? BARREN_MS;
    this.#arrived.push({ offset: offset(at + this.#stream.base), data: message.data });
  }

  #endPull(status: number, description: string): void {
    this.#awaited = 0;
    const isUsual =
      status === STATUS.expired || (status === STATUS.limit && /exceeds maxbytes|batch completed/i.test(description));
    if (!isUsual) this.#lose(`the server ended the read: ${status} ${description}`);
  }

  #lose(reason: string): void {
    this.#lost ??= reason;
    this.#waker.wake();
  }
}

/** Status codes of pull requests, ADR-13 of NATS. */
const STATUS = { heartbeat: 100, expired: 408, limit: 409 };

/** The headers of a record are not looked at: of a damaged one they may be none, and the client library throws then. */
const isRecord = (message: Msg): boolean => message.reply?.startsWith("$JS.ACK.") === true;

/** From the reply subject: `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.…`, from 2.11 on perhaps with domain and account before. */
function streamSequence(reply: string): number | undefined {
  const tokens = reply.split(".");
  const sequence = Number(tokens.length >= 11 ? tokens[7] : tokens[5]);
  return Number.isSafeInteger(sequence) && sequence > 0 ? sequence : undefined;
}
