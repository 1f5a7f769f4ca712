import type { LogEvent } from "../../event/kinds.ts";
import type { Offset } from "../../event/positions.ts";
import type { ChangeLog, StoredRecord } from "../../log/change-log.ts";
import { HashChain } from "../../log/log-reader.ts";
import { Waker } from "../../runtime/waker.ts";

/** What a timer can wait at most. */
const LONGEST_WAIT_MS = 2 ** 31 - 1;

export interface CursorOptions {
  readonly after: Offset;
  /** Of the record at `after`, when known. */
  readonly previousHash: Uint8Array | undefined;
  readonly signal: AbortSignal;
}

/** A record as the log stores it, and what it says. */
export interface ReadRecord {
  readonly stored: StoredRecord;
  readonly event: LogEvent;
  /** SHA-256 of the record. */
  readonly hash: Uint8Array;
}

/** Reads a log record by record, proved to follow each other, and can be waited for together with a time and a call. */
export class LogCursor implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #batches: AsyncIterator<readonly StoredRecord[]>;
  readonly #chain: HashChain;
  readonly #waker = new Waker();
  #batch: Promise<IteratorResult<readonly StoredRecord[]>> | undefined;
  #settled = false;
  #records: readonly StoredRecord[] = [];
  #next = 0;

  constructor(log: ChangeLog, { after, previousHash, signal }: CursorOptions) {
    const options = { follow: true, signal: AbortSignal.any([signal, this.#stop.signal]) };
    this.#chain = new HashChain(log, { ...options, after, ...(previousHash ? { previousHash } : {}) });
    this.#batches = log.read(after, options)[Symbol.asyncIterator]();
  }

  /** Ends a wait. */
  wake(): void {
    this.#waker.wake();
  }

  /** The next record, "end" when the log ends (that is, at the abort), undefined when it took longer than `waitMs`, or was woken. */
  async next(waitMs: number): Promise<ReadRecord | "end" | undefined> {
    if (this.#next >= this.#records.length) {
      const batch = await this.#fetch(waitMs);
      if (!batch) return undefined;
      if (batch.done) return "end";
      this.#records = batch.value;
      this.#next = 0;
    }
    const stored = this.#records[this.#next];
    this.#next += 1;
    if (!stored) return undefined;
    const event = await this.#chain.next(stored);
    return { stored, event, hash: this.#chain.hash };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#batch?.catch(() => undefined);
    await this.#batches.return?.();
  }

  async #fetch(waitMs: number): Promise<IteratorResult<readonly StoredRecord[]> | undefined> {
    if (!this.#batch) {
      this.#settled = false;
      this.#batch = this.#batches.next().finally(() => {
        this.#settled = true;
        this.#waker.wake();
      });
      this.#batch.catch(() => undefined);
    }
    if (!this.#settled) await this.#waker.wait(Math.min(waitMs, LONGEST_WAIT_MS));
    if (!this.#settled) return undefined;
    const batch = this.#batch;
    this.#batch = undefined;
    return batch;
  }
}
