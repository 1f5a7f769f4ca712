import { availableParallelism } from "node:os";
import type { Worker } from "node:worker_threads";

import { IN_PLACE_AT_ONCE } from "../repository/object-store.ts";
import { startThread, threadModule } from "../runtime/start-thread.ts";
import { freeBlob, takeMemory } from "./blob-copies.ts";
import { type PageBlob, PageBlobs, type PageHashes } from "./write-pages.ts";

/** `code`: what the system says of a write that failed. */
export type Written =
  | { readonly hashes: readonly PageHashes[] }
  | { readonly failure: { readonly message: string; readonly code: string | undefined } };

/** From here on a thread is worth its start. */
const MUCH_BYTES = 16 * 1024 * 1024;
/** A thread gets so much at a time. */
const BATCH_BYTES = 2 * 1024 * 1024;
/** All threads have about so much in memory at most, and so much that they read themselves: some blocks of a database for each. */
const MAX_AHEAD_BYTES = 16 * 1024 * 1024;
const MAX_PLACED_BYTES = 256 * 1024 * 1024;
const LANES = Math.min(IN_PLACE_AT_ONCE, availableParallelism());

type Step =
  | (PageBlob & { readonly kind: "pages"; readonly bytes: number; readonly done: (hashes: PageHashes) => void })
  | { readonly kind: "after"; readonly done: () => void };

/**
 * Writes pages of databases and hashes them, in threads when they are many. What is written in one lane is written in the
 * order of the calls; lanes are numbers from 0, as many as one likes.
 */
export class PageWriter implements AsyncDisposable {
  /** Those that were written to. */
  readonly #lanes = new Map<number, Lane>();
  /** Who writes when no thread is worth its start. */
  readonly #here: PageBlobs | undefined;
  readonly #ahead = { memory: 0, placed: 0 };
  #failure: Error | undefined;
  #wake: () => void = () => undefined;

  /** `bytes`: what there is to write, about. */
  constructor(bytes: number) {
    if (bytes <= MUCH_BYTES) this.#here = new PageBlobs();
  }

  /** The memory of a blob is the writer's from now on. `done` gets the hashes of its pages. */
  write(lane: number, pages: PageBlob, done: (hashes: PageHashes) => void): void {
    if (!this.#here) return this.#lane(lane).write(pages, done);
    const [hashes] = this.#here.write([pages]);
    done(hashes);
    if (pages.blob instanceof Uint8Array) freeBlob(pages.blob);
  }

  /** `done` is called when everything before it in its lane is written. */
  after(lane: number, done: () => void): void {
    if (this.#here) done();
    else this.#lane(lane).after(done);
  }

  /** Waits while much is to be written. @throws what the disk says, and what `done` threw */
  async room(): Promise<void> {
    await this.#until(() => this.#ahead.memory <= MAX_AHEAD_BYTES && this.#ahead.placed <= MAX_PLACED_BYTES);
  }

  /** Everything is written. @throws as room */
  async finish(): Promise<void> {
    for (const lane of this.#lanes.values()) lane.send();
    await this.#until(() => [...this.#lanes.values()].every(({ isIdle }) => isIdle));
  }

  /** When it resolves nothing is written any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#here?.[Symbol.dispose]();
    await Promise.all([...this.#lanes.values()].map(async (lane) => lane.end()));
  }

  async #until(isSo: () => boolean): Promise<void> {
    while (!this.#failure && !isSo()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#failure) throw this.#failure;
  }

  #lane(number: number): Lane {
    const at = number % LANES;
    const lane = this.#lanes.get(at) ?? this.#newLane();
    this.#lanes.set(at, lane);
    return lane;
  }

  #newLane(): Lane {
    return new Lane({
      onSent: (batch, sign) => {
        for (const step of batch) {
          if (step.kind === "pages")
            this.#ahead[step.blob instanceof Uint8Array ? "memory" : "placed"] += sign * step.bytes;
        }
        this.#wake();
      },
      onFailure: (error) => {
        this.#failure ??= error;
        this.#wake();
      },
    });
  }
}

interface LaneOptions {
  /** 1: it was sent; -1: it is written. */
  readonly onSent: (batch: readonly Step[], sign: 1 | -1) => void;
  readonly onFailure: (error: Error) => void;
}

/** One thread. */
class Lane {
  readonly #options: LaneOptions;
  readonly #worker: Worker;
  #batch: Step[] = [];
  #bytes = 0;
  readonly #sent: (readonly Step[])[] = [];

  constructor(options: LaneOptions) {
    this.#options = options;
    this.#worker = this.#start();
  }

  get isIdle(): boolean {
    return this.#batch.length === 0 && this.#sent.length === 0;
  }

  write(pages: PageBlob, done: (hashes: PageHashes) => void): void {
    // Those that share their memory go together.
    if (this.#bytes >= BATCH_BYTES && !this.#sharesMemory(pages.blob)) this.send();
    const bytes = pages.runs.reduce((sum, run) => sum + run.bytes, 0);
    this.#batch.push({ kind: "pages", ...pages, bytes, done });
    this.#bytes += bytes;
  }

  after(done: () => void): void {
    if (this.isIdle) done();
    else this.#batch.push({ kind: "after", done });
  }

  send(): void {
    const batch = this.#batch;
    if (batch.length === 0) return;
    this.#batch = [];
    this.#bytes = 0;
    const all = batch.filter((step) => step.kind === "pages");
    const taken = takeMemory(all.flatMap(({ blob }) => (blob instanceof Uint8Array ? [blob] : [])));
    const toWrite = all.map(({ target, runs, blob }): PageBlob => {
      if (!(blob instanceof Uint8Array) || taken.has(blob.buffer as ArrayBuffer)) return { target, runs, blob };
      const own = new Uint8Array(blob);
      freeBlob(blob);
      taken.add(own.buffer);
      return { target, runs, blob: own };
    });
    this.#sent.push(batch);
    this.#options.onSent(batch, 1);
    this.#worker.postMessage(toWrite, [...taken]);
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #sharesMemory(blob: PageBlob["blob"]): boolean {
    const last = this.#batch.findLast((step) => step.kind === "pages")?.blob;
    return last instanceof Uint8Array && blob instanceof Uint8Array && last.buffer === blob.buffer;
  }

  #start(): Worker {
    return startThread<Written>(threadModule(import.meta.url, "page-writer-worker"), {
      what: "a thread that writes pages",
      onMessage: (written) => this.#take(written),
      onEnd: (error) => this.#options.onFailure(error),
    });
  }

  #take(written: Written): void {
    const { onSent, onFailure } = this.#options;
    const batch = this.#sent.shift() ?? [];
    if ("failure" in written) {
      const { message, code } = written.failure;
      return onFailure(Object.assign(new Error(message), { code }));
    }
    try {
      let next = 0;
      for (const step of batch) {
        if (step.kind === "after") step.done();
        else step.done(written.hashes[next++]);
      }
    } catch (error) {
      onFailure(error instanceof Error ? error : new Error(String(error)));
    }
    onSent(batch, -1);
  }
}
