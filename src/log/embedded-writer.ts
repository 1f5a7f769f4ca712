import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { decodeRecordHeader } from "../event/codec.ts";
import type { Offset } from "../event/positions.ts";
import { offset } from "../event/positions.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { ownsLargeBuffer } from "../runtime/give-back.ts";
import { ByteWindow } from "./byte-window.ts";
import { type FromWorker, fromPlain, type ToWorker, type WorkerOptions } from "./embedded-protocol.ts";
import { embeddedLocation } from "./embedded-store.ts";
import { abandonedError } from "./log-errors.ts";

/** Bytes handed to the thread and not yet acknowledged. */
const WINDOW_BYTES = 4 * 1024 * 1024;

interface Pending {
  readonly resolve: (head: Offset) => void;
  readonly reject: (error: unknown) => void;
  readonly bytes: number;
  readonly append: boolean;
}

export interface EmbeddedWriterOptions extends WorkerOptions {
  readonly onProblem: (error: TidemarkError) => void;
  readonly onCommit: () => void;
}

/** The main thread's side of embedded-log-worker.ts. */
export class EmbeddedWriter implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #options: EmbeddedWriterOptions;
  readonly #window = new ByteWindow(WINDOW_BYTES);
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #round = 0;
  #closed: TidemarkError | undefined;

  private constructor(worker: Worker, options: EmbeddedWriterOptions) {
    this.#worker = worker;
    this.#options = options;
    worker.on("message", (message: FromWorker) => this.#receive(message));
    worker.on("error", (error) => this.#lose(`its writer thread failed: ${error.message}`));
    worker.on("exit", () => this.#lose("its writer thread ended"));
  }

  /** @throws AGENT_RUNNING, LOG_FOREIGN, LOG_DENIED */
  static async open(options: EmbeddedWriterOptions): Promise<EmbeddedWriter> {
    // From a checkout Node runs the sources, from the package the compiled files.
    const file = import.meta.url.endsWith(".ts") ? "./embedded-log-worker.ts" : "./embedded-log-worker.js";
    const { directory, set, begin } = options;
    const workerData: WorkerOptions = { directory, set, begin };
    const worker = new Worker(new URL(file, import.meta.url), { workerData, execArgv: [] });
    const [message] = (await once(worker, "message")) as [FromWorker];
    if (message.type === "opened") return new EmbeddedWriter(worker, options);
    await worker.terminate();
    throw message.type === "refused" ? fromPlain(message.error) : new Error(`unexpected ${message.type}`);
  }

  append(records: readonly Uint8Array[], expectedHead: Offset, signal: AbortSignal): Promise<Offset> {
    const bytes = records.reduce((sum, record) => sum + record.length, 0);
    const aborted = (): Error => abandonedError(this.#location);
    return new Promise((resolve, reject) => {
      this.#window.take(bytes, { signal, aborted }, (refused) => {
        if (refused) reject(refused);
        else this.#request(toMessage(records, expectedHead), { bytes, signal }).then(resolve, reject);
      });
    });
  }

  async trim(through: Offset): Promise<void> {
    await this.#request({ type: "trim", through }, { bytes: 0 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = abandonedError(this.#location);
    const ended = once(this.#worker, "exit");
    this.#worker.postMessage({ type: "close" } satisfies ToWorker);
    await ended;
  }

  get #location(): string {
    return embeddedLocation(this.#options.directory);
  }

  #request(message: Unnumbered, options: { bytes: number; signal?: AbortSignal }): Promise<Offset> {
    const id = this.#nextId++;
    const abandon = (): void => this.#worker.postMessage({ type: "abandon", id } satisfies ToWorker);
    const settled = new Promise<Offset>((resolve, reject) => {
      this.#pending.set(id, {
        resolve,
        reject,
        bytes: options.bytes,
        append: message.type === "append",
      });
      if (this.#closed) return this.#settle(id, this.#closed);
      const transfer = message.type === "append" ? buffersOf(message.records) : [];
      const numbered: ToWorker =
        message.type === "append" ? { ...message, id, round: this.#round } : { ...message, id };
      this.#worker.postMessage(numbered, transfer);
      options.signal?.addEventListener("abort", abandon, { once: true });
    });
    return settled.finally(() => options.signal?.removeEventListener("abort", abandon));
  }

  #receive(message: FromWorker): void {
    if (message.type === "problem") this.#options.onProblem(fromPlain(message.error));
    if (message.type === "done") {
      this.#options.onCommit();
      this.#settle(message.id, offset(message.head));
    }
    if (message.type === "failed") {
      this.#round = message.round;
      this.#fail(message.id, fromPlain(message.error));
    }
  }

  /** When one append fails all later ones fail with it. */
  #fail(id: number, error: TidemarkError): void {
    const failed = this.#pending.get(id);
    if (!failed) return;
    if (!failed.append) return this.#settle(id, error);
    for (const [other, pending] of this.#pending) if (other >= id && pending.append) this.#settle(other, error);
    this.#window.refuseWaiting(error);
  }

  #settle(id: number, outcome: Offset | TidemarkError): void {
    const pending = this.#pending.get(id);
    if (!pending) return;
    this.#pending.delete(id);
    this.#window.give(pending.bytes);
    if (outcome instanceof TidemarkError) pending.reject(outcome);
    else pending.resolve(outcome);
  }

  #lose(reason: string): void {
    this.#closed ??= new TidemarkError("LOG_UNREACHABLE", `${this.#location}: ${reason}`, {
      hint: "Start the agent again; it continues from what the log holds.",
    });
    for (const id of this.#pending.keys()) this.#settle(id, this.#closed);
    this.#window.refuseWaiting(this.#closed);
  }
}

/** The memory of large records goes over; small ones are copied to one buffer that does. */
function toMessage(records: readonly Uint8Array[], expectedHead: Offset): Unnumbered {
  const headers = records.map(decodeRecordHeader);
  const small = records.filter((record) => !ownsLargeBuffer(record));
  const copies = new Uint8Array(small.reduce((sum, record) => sum + record.length, 0));
  let at = 0;
  return {
    type: "append",
    expectedHead,
    records: records.map((record) => {
      if (ownsLargeBuffer(record)) return record;
      copies.set(record, at);
      return copies.subarray(at, (at += record.length));
    }),
    times: headers.map((header) => header.timeMs),
    epochs: headers.map((header) => header.epoch),
  };
}

function buffersOf(records: readonly Uint8Array[]): ArrayBuffer[] {
  return [...new Set(records.map(({ buffer }) => buffer))].filter((buffer) => buffer instanceof ArrayBuffer);
}

type Unnumbered = ToWorker extends infer M
  ? M extends { type: "append" | "trim" }
    ? Omit<M, "id" | "round">
    : never
  : never;
