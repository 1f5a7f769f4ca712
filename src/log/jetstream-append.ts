import { createInbox, headers, type Msg, type Subscription } from "@nats-io/transport-node";
import { decodeRecordHeader, recordHash } from "../event/codec.ts";
import { type Offset, offset } from "../event/positions.ts";
import { sleep, systemClock } from "../runtime/clock.ts";
import type { TidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import { ByteWindow } from "./byte-window.ts";
import { parseAck } from "./jetstream-ack.ts";
import { type Call, type Entry, markLanded } from "./jetstream-entry.ts";
import { type OpenStream, PUBLISH_HEADER_BYTES } from "./jetstream-stream.ts";
import { abandonedError, tooLargeError, unreachableError } from "./log-errors.ts";

const WINDOW_BYTES = 8 * 1024 * 1024;
const WINDOW_MESSAGES = 256;
const ACK_TIMEOUT_MS = 5_000;
const FIRST_DELAY_MS = 50;
const MAX_DELAY_MS = 5_000;

export interface AppenderOptions {
  readonly onProblem?: (error: TidemarkError) => void;
  readonly ackTimeoutMs?: number;
}

/**
 * Publishes records in order, several at a time, each with the last sequence it expects, so that none can land twice or
 * out of place. Whenever anything goes wrong it stops sending, looks what the stream holds where the oldest unsettled
 * record should be, and goes on from there: ours → accepted, nothing → sent again with the same id and expectation (an
 * earlier try may still land: then the stream holds ours at the next look), anything else → the error that names it.
 */
export class JetStreamAppender implements Disposable {
  readonly #stream: OpenStream;
  readonly #options: AppenderOptions;
  readonly #window = new ByteWindow(WINDOW_BYTES);
  readonly #inbox: string;
  readonly #acks: Subscription;
  readonly #listening: Disposable;
  /** Unsettled records in order; the first `#sent` of them are under way. */
  #queue: Entry[] = [];
  #sent = 0;
  /** Answers to an earlier round of sending are ignored: the look has settled what they would say. */
  #round = 0;
  #limit = WINDOW_MESSAGES;
  #delayMs = 0;
  #progressAt = 0;
  #recovery: AbortController | undefined;
  #watching = false;
  readonly #closing = new AbortController();

  constructor(stream: OpenStream, options: AppenderOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#inbox = createInbox();
    const { nats } = stream.connection;
    this.#acks = nats.subscribe(`${this.#inbox}.*.*`, {
      callback: (error, message) => (error ? undefined : this.#receive(message)),
    });
    this.#listening = stream.connection.onChange(() => this.#connectionChanged());
  }

  append(records: readonly Uint8Array[], expectedHead: Offset, signal: AbortSignal): Promise<Offset> {
    const bytes = records.reduce((sum, record) => sum + record.length, 0);
    const { location } = this.#stream;
    const largest = records.reduce((max, record) => Math.max(max, record.length), 0);
    const limit = (this.#stream.connection.nats.info?.max_payload ?? Infinity) - PUBLISH_HEADER_BYTES;
    if (largest > limit)
      return Promise.reject(tooLargeError(location, { bytes: largest, evidence: `the server takes ${limit}` }));
    return new Promise((resolve, reject) => {
      this.#window.take(bytes, { signal, aborted: () => abandonedError(location) }, (refused) => {
        if (refused) return reject(refused);
        const abandon = (): void => this.#failFrom(call, abandonedError(location));
        const settle = (outcome: Offset | Error): void => {
          signal.removeEventListener("abort", abandon);
          if (outcome instanceof Error) reject(outcome);
          else resolve(outcome);
          this.#window.give(bytes);
        };
        const call: Call = { bytes, last: offset(expectedHead + records.length), settle };
        signal.addEventListener("abort", abandon, { once: true });
        this.#enqueue(records, { expectedHead, call });
      });
    });
  }

  [Symbol.dispose](): void {
    this.#closing.abort();
    this.#fail(abandonedError(this.#stream.location));
    this.#listening[Symbol.dispose]();
    this.#acks.unsubscribe();
  }

  #enqueue(records: readonly Uint8Array[], options: { expectedHead: Offset; call: Call }): void {
    const { expectedHead, call } = options;
    const tail = this.#queue.at(-1)?.offset;
    invariant(tail === undefined || tail === expectedHead, `append expects head ${expectedHead} after ${tail}`);
    records.forEach((data, index) => {
      const { epoch } = decodeRecordHeader(data);
      const at = offset(expectedHead + 1 + index);
      const messageId = `${epoch}/${at}/${Buffer.from(recordHash(data)).toString("hex", 0, 12)}`;
      this.#queue.push({ offset: at, epoch, data, messageId, call, acknowledged: false });
    });
    this.#pump();
  }

  #pump(): void {
    if (this.#recovery || this.#queue.length === 0) return;
    if (!this.#stream.connection.up)
      return void this.#recover(unreachableError(this.#stream.location, "the connection is lost"));
    for (let entry = this.#queue[this.#sent]; entry && this.#sent < this.#limit; entry = this.#queue[this.#sent]) {
      if (this.#sent === 0) this.#progressAt = systemClock.monotonic();
      this.#publish(entry);
      this.#sent += 1;
    }
    if (!this.#watching) void this.#watchForSilence();
  }

  /**
   * The expected sequence alone does not keep the order: when a record is refused because somebody else's stands in its
   * place, the one sent behind it finds just the sequence it expects. So it names the record before it as well, for as
   * long as that is not known to be in the stream.
   */
  #publish(entry: Entry): void {
    const header = headers();
    header.set("Nats-Msg-Id", entry.messageId);
    header.set("Nats-Expected-Stream", this.#stream.name);
    header.set("Nats-Expected-Last-Sequence", String(entry.offset - 1 - this.#stream.base));
    const before = this.#queue[this.#sent - 1];
    if (before) header.set("Nats-Expected-Last-Msg-Id", before.messageId);
    const reply = `${this.#inbox}.${this.#round}.${entry.offset}`;
    this.#stream.connection.nats.publish(this.#stream.subject, entry.data, {
      reply,
      headers: header,
    });
  }

  #receive(message: Msg): void {
    const [round, at] = message.subject
      .slice(this.#inbox.length + 1)
      .split(".")
      .map(Number);
    const first = this.#queue[0]?.offset;
    if (this.#recovery || round !== this.#round || first === undefined || at === undefined) return;
    const entry = this.#queue[at - first];
    if (!entry) return;
    const ack = parseAck(message, { location: this.#stream.location, bytes: entry.data.length });
    if (ack.kind === "refused") return void this.#recover(ack.error);
    // Of a duplicate the server says where the first one stands: there means stored, as with any other answer.
    if (ack.kind === "elsewhere" || ack.sequence + this.#stream.base !== entry.offset)
      return void this.#recover(undefined);
    entry.acknowledged = true;
    this.#progressAt = systemClock.monotonic();
    this.#settleAcknowledged();
    this.#pump();
  }

  #settleAcknowledged(): void {
    const end = this.#queue.findIndex((entry) => !entry.acknowledged);
    const done = this.#queue.splice(0, end === -1 ? this.#queue.length : end);
    if (done.length === 0) return;
    this.#sent = Math.max(0, this.#sent - done.length);
    this.#delayMs = 0;
    this.#limit = Math.min(WINDOW_MESSAGES, this.#limit + done.length);
    for (const entry of done) if (entry.offset === entry.call.last) entry.call.settle(entry.offset);
  }

  /** A server that says nothing at all: acknowledgements got lost, or the connection is dead and does not know it. */
  async #watchForSilence(): Promise<void> {
    const timeoutMs = this.#options.ackTimeoutMs ?? ACK_TIMEOUT_MS;
    this.#watching = true;
    while (this.#sent > 0 && !this.#recovery) {
      const quietMs = systemClock.monotonic() - this.#progressAt;
      if (quietMs < timeoutMs) {
        await sleep(timeoutMs - quietMs, this.#closing.signal);
        if (this.#closing.signal.aborted) return;
        continue;
      }
      void this.#recover(unreachableError(this.#stream.location, `no acknowledgement for ${Math.round(quietMs)} ms`));
    }
    this.#watching = false;
  }

  #connectionChanged(): void {
    const { connection, location } = this.#stream;
    const gone = connection.failure ?? connection.denial(this.#stream.subject);
    if (gone) return this.#fail(gone);
    if (!connection.up && this.#sent > 0) void this.#recover(unreachableError(location, "the connection is lost"));
  }

  /** Stops sending until a look at the stream has settled what landed. `problem` is why, when it is worth telling. */
  async #recover(problem: TidemarkError | undefined): Promise<void> {
    if (this.#recovery) return;
    const recovery = new AbortController();
    this.#recovery = recovery;
    this.#round += 1;
    this.#sent = 0;
    // Start again with one record: a slow server must not get the whole window again and again.
    this.#limit = 1;
    for (let error = problem; this.#queue.length > 0 && !recovery.signal.aborted;) {
      if (error && (!error.retryable || error === this.#stream.connection.failure)) {
        // A definite answer: whoever asks again (a candidate while the primary writes on) is not to be slower each time.
        this.#delayMs = 0;
        return this.#fail(error);
      }
      if (error) this.#options.onProblem?.(error);
      await sleep(this.#delayMs, recovery.signal);
      this.#delayMs = Math.min(Math.max(this.#delayMs * 2, FIRST_DELAY_MS), MAX_DELAY_MS);
      await this.#stream.connection.settled(recovery.signal);
      error = await this.#settleByLooking();
      if (!error) break;
    }
    if (this.#recovery !== recovery) return;
    this.#recovery = undefined;
    this.#pump();
  }

  /** Settles what landed. Returns why it could not be found out, or what stands there instead. */
  async #settleByLooking(): Promise<TidemarkError | undefined> {
    const { connection } = this.#stream;
    const gone = connection.failure ?? connection.denial(this.#stream.subject);
    if (gone) return gone;
    const error = await markLanded(this.#stream, this.#queue);
    this.#settleAcknowledged();
    return error;
  }

  #fail(error: Error): void {
    const first = this.#queue[0];
    if (first) this.#failFrom(first.call, error);
    else this.#endRecovery();
    this.#window.refuseWaiting(error);
  }

  /** Rejects `call` and everything after it. */
  #failFrom(call: Call, error: Error): void {
    const index = this.#queue.findIndex((entry) => entry.call === call);
    if (index === -1) return;
    const failed = new Set(this.#queue.splice(index).map((entry) => entry.call));
    if (this.#queue.length === 0) this.#endRecovery();
    if (this.#sent > index) {
      // Late answers must not be taken for those to records that take these offsets next.
      this.#round += 1;
      this.#sent = 0;
      if (index > 0) void this.#recover(undefined);
    }
    this.#window.refuseWaiting(error);
    for (const gone of failed) gone.settle(error);
  }

  #endRecovery(): void {
    this.#recovery?.abort();
    this.#recovery = undefined;
  }
}
