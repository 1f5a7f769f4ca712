import type { Worker } from "node:worker_threads";

import { encodeChunks } from "../../event/chunk-list.ts";
import type { ByteString } from "../../event/tree-path.ts";
import { startThread, threadModule } from "../../runtime/start-thread.ts";
import type { FromReader, LargeChunk, ToReader } from "./large-file-protocol.ts";

export interface LargeReadOptions {
  /** Bytes to read, from the beginning. */
  readonly size: number;
  /** Also the hash of so many first bytes; 0: none. */
  readonly prefix: number;
  /** Called for each chunk, in order; the next ones are fetched when it has resolved. */
  readonly onChunk: (chunk: LargeChunk) => Promise<void>;
  readonly signal: AbortSignal;
}

export interface LargeRead {
  readonly size: number;
  readonly hash: Uint8Array;
  readonly chunks: Uint8Array;
  readonly prefixHash: Uint8Array | undefined;
}

/** Reads large files in a thread that starts when the first one comes. */
export class LargeFiles implements AsyncDisposable {
  #worker: Worker | undefined;
  readonly #nameKey: Uint8Array | undefined;
  readonly #waiting = new Map<number, PromiseWithResolvers<FromReader>>();
  #lastId = 0;
  #failure: Error | undefined;

  /** `nameKey`: chunks are named with it. */
  constructor(nameKey: Uint8Array | undefined) {
    this.#nameKey = nameKey;
  }

  /** Undefined: the file became shorter, or `signal` aborted. @throws what the system says of the read */
  async read(fd: number, options: LargeReadOptions): Promise<LargeRead | undefined> {
    const id = (this.#lastId += 1);
    const { size, prefix, signal } = options;
    this.#post({ type: "begin", id, fd, size, prefix, nameKey: this.#nameKey });
    try {
      const found: { id: ByteString; size: number }[] = [];
      let next = this.#more(id);
      for (;;) {
        const { chunks, end, short, error } = await next;
        if (error) throw Object.assign(new Error(error.message), { code: error.code });
        if (short || signal.aborted) return undefined;
        // The thread is busy with what comes after while these are given to the log.
        if (!end) next = this.#more(id);
        for (const chunk of chunks) {
          found.push({ id: chunk.id, size: chunk.size });
          await options.onChunk(chunk);
        }
        if (end) return { size, hash: end.hash, chunks: encodeChunks(found), prefixHash: end.prefixHash };
      }
    } finally {
      // The caller closes the file: nothing may be reading it then.
      await this.#waiting.get(id)?.promise.catch(() => undefined);
      this.#post({ type: "end", id });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.terminate();
  }

  #more(id: number): Promise<FromReader> {
    const waiting = Promise.withResolvers<FromReader>();
    waiting.promise.catch(() => undefined);
    this.#waiting.set(id, waiting);
    if (this.#failure) this.#fail(this.#failure);
    else this.#post({ type: "more", id });
    return waiting.promise;
  }

  #post(message: ToReader): void {
    if (this.#failure) return;
    this.#worker ??= this.#start();
    this.#worker.postMessage(message);
  }

  #start(): Worker {
    return startThread<FromReader>(threadModule(import.meta.url, "large-file-worker"), {
      what: "the thread that reads large files",
      onMessage: (message) => {
        const waiting = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        waiting?.resolve(message);
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
