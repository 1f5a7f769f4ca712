import type { Worker } from "node:worker_threads";

import { RecordProblem } from "../event/record-error.ts";
import { startThread, threadModule } from "../runtime/start-thread.ts";
import type { OpenedWith } from "./envelope.ts";
import type { SealedAs } from "./sealer.ts";

/** An envelope, and where it lies in memory that others lie in, too. */
export interface EnvelopeToOpen {
  readonly as: SealedAs;
  readonly start: number;
  readonly bytes: number;
  readonly opened: OpenedWith;
}

/** To the thread, which has the memory meanwhile. */
export interface ToOpen {
  readonly id: number;
  readonly memory: ArrayBuffer;
  readonly envelopes: readonly EnvelopeToOpen[];
}

/** What was in an envelope, from where on it lies in the memory that it came with, or why that cannot be told. */
export type OpenedEnvelope =
  | { readonly raw: Uint8Array<ArrayBuffer> }
  | { readonly start: number; readonly bytes: number }
  | { readonly problem: string };

export interface Opened {
  readonly id: number;
  readonly memory: ArrayBuffer;
  readonly results: readonly OpenedEnvelope[];
}

/** Beside the thread that fetches and writes. On two cores a second one took more time than it saved, and 30 MiB. */
const THREADS = 1;

/** Proves, decrypts and decompresses envelopes in threads, which start with the first ones. */
export class EnvelopeThreads implements AsyncDisposable {
  readonly #workers: Worker[] = [];
  readonly #waiting = new Map<number, PromiseWithResolvers<Opened>>();
  #lastId = 0;
  #failure: Error | undefined;

  /** `memory` is the thread's until this resolves, and comes back as another buffer. What was in the envelopes may be views into it. */
  async open(
    memory: ArrayBuffer,
    envelopes: readonly EnvelopeToOpen[],
  ): Promise<{ readonly memory: ArrayBuffer; readonly raws: readonly (Uint8Array | RecordProblem)[] }> {
    if (this.#failure) throw this.#failure;
    const waiting = Promise.withResolvers<Opened>();
    const id = (this.#lastId += 1);
    this.#waiting.set(id, waiting);
    const worker = (this.#workers[id % THREADS] ??= this.#start());
    worker.postMessage({ id, memory, envelopes: envelopes.map(toSend) } satisfies ToOpen, [memory]);
    const opened = await waiting.promise;
    return { memory: opened.memory, raws: opened.results.map((result) => received(result, opened.memory)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#workers.map(async (worker) => worker.terminate()));
  }

  #start(): Worker {
    return startThread<Opened>(threadModule(import.meta.url, "envelope-worker"), {
      what: "a thread that opens objects",
      onMessage: (opened) => {
        const waiting = this.#waiting.get(opened.id);
        this.#waiting.delete(opened.id);
        waiting?.resolve(opened);
      },
      onEnd: (error) => this.#fail(error),
    });
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}

/** The ids of keys, and keys, are views, which would bring along all that they lie in. */
function toSend({ opened, ...envelope }: EnvelopeToOpen): EnvelopeToOpen {
  const { head, dataKey } = opened;
  return {
    ...envelope,
    opened: { ...opened, head: { ...head, keyId: undefined }, dataKey: dataKey && new Uint8Array(dataKey) },
  };
}

function received(result: OpenedEnvelope, memory: ArrayBuffer): Uint8Array | RecordProblem {
  if ("raw" in result) return result.raw;
  return "problem" in result ? new RecordProblem(result.problem) : new Uint8Array(memory, result.start, result.bytes);
}
