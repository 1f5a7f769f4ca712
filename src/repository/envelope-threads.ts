import { once } from "node:events";
import { Worker } from "node:worker_threads";

import { RecordProblem } from "../event/record-error.ts";
import type { OpenedWith } from "./envelope.ts";
import type { EnvelopeOpener, SealedAs } from "./sealer.ts";

/** An envelope that owns its memory, to the thread. */
export interface ToOpen {
  readonly id: number;
  readonly as: SealedAs;
  readonly stored: Uint8Array<ArrayBuffer>;
  readonly opened: OpenedWith;
}

/** What was in it, or why that cannot be told. */
export type Opened =
  | { readonly id: number; readonly raw: Uint8Array<ArrayBuffer> }
  | { readonly id: number; readonly problem: string };

/** Beside the thread that fetches and writes. On two cores a second one took more time than it saved, and 30 MiB. */
const THREADS = 1;

/** Proves, decrypts and decompresses envelopes in threads, which start with the first ones. */
export class EnvelopeThreads implements AsyncDisposable {
  readonly #workers: Worker[] = [];
  readonly #waiting = new Map<number, PromiseWithResolvers<Uint8Array>>();
  #lastId = 0;
  #failure: Error | undefined;

  /** What comes of it owns its memory. @throws RecordProblem */
  readonly open: EnvelopeOpener = async (as, stored, { head, dataKey }) => {
    if (this.#failure) throw this.#failure;
    const waiting = Promise.withResolvers<Uint8Array>();
    const id = (this.#lastId += 1);
    this.#waiting.set(id, waiting);
    const worker = (this.#workers[id % THREADS] ??= this.#start());
    const own = new Uint8Array(stored);
    // The id of its key is a view, which would bring along all that it lies in; it is not needed any more.
    const opened = { head: { ...head, keyId: undefined }, dataKey: dataKey && new Uint8Array(dataKey) };
    worker.postMessage({ id, as, stored: own, opened } satisfies ToOpen, [own.buffer]);
    return waiting.promise;
  };

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#workers.map(async (worker) => worker.terminate()));
  }

  #start(): Worker {
    const file = import.meta.url.endsWith(".ts") ? "./envelope-worker.ts" : "./envelope-worker.js";
    const worker = new Worker(new URL(file, import.meta.url), { execArgv: [] });
    worker.unref();
    worker.on("message", (opened: Opened) => {
      const waiting = this.#waiting.get(opened.id);
      this.#waiting.delete(opened.id);
      if ("raw" in opened) waiting?.resolve(opened.raw);
      else waiting?.reject(new RecordProblem(opened.problem));
    });
    worker.on("error", (error) => this.#fail(error instanceof Error ? error : new Error(String(error))));
    void once(worker, "exit").then(() => this.#fail(new Error("a thread that opens objects ended")));
    return worker;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}
