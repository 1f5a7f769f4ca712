import type { Worker } from "node:worker_threads";

import { startThread, threadModule } from "../runtime/start-thread.ts";
import { freeBlob, takeMemory } from "./blob-copies.ts";
import { type PageRun, type PageTarget, writePages } from "./write-pages.ts";

/** To the thread, which has the memory from then on. */
export interface ToWrite {
  readonly target: PageTarget;
  readonly runs: readonly PageRun[];
}

/** Hashes of the pages of each part. `code`: what the system says of a write that failed. */
export type Written =
  | { readonly hashes: readonly BigUint64Array[] }
  | { readonly failure: { readonly message: string; readonly code: string | undefined } };

/** From here on a thread is worth its start. */
const MUCH_BYTES = 16 * 1024 * 1024;
/** The thread gets so much at a time, and has at most about so much. */
const BATCH_BYTES = 1024 * 1024;
const MAX_AHEAD_BYTES = 16 * 1024 * 1024;

type Step =
  | (ToWrite & { readonly kind: "pages"; readonly blob: Uint8Array; readonly done: (hashes: BigUint64Array) => void })
  | { readonly kind: "after"; readonly done: () => void };

interface Batch {
  readonly steps: Step[];
  bytes: number;
}

/** Writes pages of databases and hashes them, in the order of the calls; when they are many, in a thread. */
export class PageWriter implements AsyncDisposable {
  readonly #worker: Worker | undefined;
  #batch: Batch = { steps: [], bytes: 0 };
  readonly #sent: Batch[] = [];
  #sentBytes = 0;
  #failure: Error | undefined;
  #wake: () => void = () => undefined;

  /** `bytes`: what there is to write, about. */
  constructor(bytes: number) {
    if (bytes > MUCH_BYTES) this.#worker = this.#start();
  }

  /** `blob`: what the runs lie in, whose memory is the writer's from now on. `done` gets the hashes of their pages. */
  write(blob: Uint8Array, { target, runs }: ToWrite, done: (hashes: BigUint64Array) => void): void {
    if (!this.#worker) {
      done(writePages(target, runs));
      freeBlob(blob);
      return;
    }
    const bytes = runs.reduce((sum, { data }) => sum + data.length, 0);
    const last = this.#batch.steps.findLast((step) => step.kind === "pages");
    // Those that share their memory go together.
    if (this.#batch.bytes >= BATCH_BYTES && last?.blob.buffer !== blob.buffer) this.#send();
    this.#batch.steps.push({ kind: "pages", target, runs, blob, done });
    this.#batch.bytes += bytes;
  }

  /** `done` is called when everything before it is written. */
  after(done: () => void): void {
    if (this.#batch.steps.length === 0 && this.#sent.length === 0) done();
    else this.#batch.steps.push({ kind: "after", done });
  }

  /** Waits while much is to be written. @throws what the disk says, and what `done` threw */
  async room(): Promise<void> {
    await this.#until(() => this.#sentBytes <= MAX_AHEAD_BYTES);
  }

  /** Everything is written. @throws as room */
  async finish(): Promise<void> {
    this.#send();
    await this.#until(() => this.#sent.length === 0);
  }

  /** When it resolves nothing is written any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.terminate();
  }

  async #until(isSo: () => boolean): Promise<void> {
    while (!this.#failure && !isSo()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#failure) throw this.#failure;
  }

  #send(): void {
    const batch = this.#batch;
    if (batch.steps.length === 0) return;
    this.#batch = { steps: [], bytes: 0 };
    const parts = batch.steps.filter((step) => step.kind === "pages");
    const taken = takeMemory(parts.map(({ blob }) => blob));
    const toWrite = parts.map(({ target, runs, blob }): ToWrite => {
      const isTaken = taken.has(blob.buffer as ArrayBuffer);
      const own = runs.map(({ firstPage, data }) => ({ firstPage, data: isTaken ? data : new Uint8Array(data) }));
      if (!isTaken) freeBlob(blob);
      return { target, runs: own };
    });
    this.#sent.push(batch);
    this.#sentBytes += batch.bytes;
    this.#worker?.postMessage(toWrite, [...taken]);
  }

  #start(): Worker {
    return startThread<Written>(threadModule(import.meta.url, "page-writer-worker"), {
      what: "the thread that writes pages",
      onMessage: (written) => this.#take(written),
      onEnd: (error) => this.#fail(error),
    });
  }

  #take(written: Written): void {
    const batch = this.#sent.shift();
    if ("failure" in written) {
      const { message, code } = written.failure;
      return this.#fail(Object.assign(new Error(message), { code }));
    }
    try {
      let next = 0;
      for (const step of batch?.steps ?? []) {
        if (step.kind === "after") step.done();
        else step.done(written.hashes[next++] ?? new BigUint64Array());
      }
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    }
    this.#sentBytes -= batch?.bytes ?? 0;
    this.#wake();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }
}
