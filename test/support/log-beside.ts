import type { Offset } from "../../src/event/positions.ts";
import type {
  ChangeLog,
  LogBounds,
  LogDurability,
  ReadOptions,
  RegisteredReplica,
  StoredRecord,
} from "../../src/log/change-log.ts";
import type { LogKeys } from "../../src/log/log-keys.ts";

/** A log of which others make use, too: something happens before each question that is put to it, and each batch it gives. */
export class LogBeside implements ChangeLog {
  readonly #log: ChangeLog;
  readonly #meanwhile: (question: number) => Promise<void>;
  /** So far. */
  questions = 0;

  constructor(log: ChangeLog, meanwhile: (question: number) => Promise<void>) {
    this.#log = log;
    this.#meanwhile = meanwhile;
  }

  get location(): string {
    return this.#log.location;
  }

  get keys(): LogKeys | undefined {
    return this.#log.keys;
  }

  async bounds(): Promise<LogBounds> {
    await this.#ask();
    return this.#log.bounds();
  }

  async get(at: Offset): Promise<Uint8Array | undefined> {
    await this.#ask();
    return this.#log.get(at);
  }

  async *read(after: Offset, options: ReadOptions): AsyncGenerator<readonly StoredRecord[]> {
    await this.#ask();
    for await (const batch of this.#log.read(after, options)) {
      await this.#ask();
      yield batch;
    }
  }

  async locate(timeMs: number): Promise<Offset> {
    await this.#ask();
    return this.#log.locate(timeMs);
  }

  append(records: readonly Uint8Array[], expectedHead: Offset, signal: AbortSignal): Promise<Offset> {
    return this.#log.append(records, expectedHead, signal);
  }

  trim(through: Offset): Promise<void> {
    return this.#log.trim(through);
  }

  register(replica: RegisteredReplica): Promise<void> {
    return this.#log.register(replica);
  }

  replicas(): Promise<readonly RegisteredReplica[]> {
    return this.#log.replicas();
  }

  durability(): Promise<LogDurability> {
    return this.#log.durability();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#log[Symbol.asyncDispose]();
  }

  async #ask(): Promise<void> {
    await this.#meanwhile((this.questions += 1));
  }
}
