import type { Worker } from "node:worker_threads";

import { layOutBodies, type PackedBody } from "../event/codec.ts";
import type { EventBody } from "../event/kinds.ts";
import { giveBackShare } from "../runtime/give-back.ts";
import { startThread, threadModule } from "../runtime/start-thread.ts";

/** Bodies one behind the other, and where each one ends; to the thread as they are, back as they are stored. */
export interface RawBodies {
  readonly id: number;
  readonly bytes: ArrayBuffer;
  readonly ends: readonly number[];
}

/** Packs bodies in a thread, which starts with the first ones. */
export class BodyPacker implements AsyncDisposable {
  #worker: Worker | undefined;
  readonly #waiting = new Map<number, PromiseWithResolvers<RawBodies>>();
  #lastId = 0;
  #failure: Error | undefined;

  /** @throws RECORD_TOO_LARGE, RECORD_INVALID */
  async pack(events: readonly EventBody[]): Promise<readonly PackedBody[]> {
    const { bytes, bodies } = layOutBodies(events);
    for (const event of events) if ("data" in event && event.data) giveBackShare(event.data);
    let end = 0;
    const ends = bodies.map(({ rawBytes }) => (end += rawBytes));
    const packed = await this.#ask({ id: (this.#lastId += 1), bytes: bytes.buffer, ends });
    return bodies.map((body, index) => {
      const from = packed.ends[index - 1] ?? 0;
      const stored = new Uint8Array(packed.bytes, from, (packed.ends[index] ?? 0) - from);
      return { packed: true, ...body, stored };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.terminate();
  }

  async #ask(bodies: RawBodies): Promise<RawBodies> {
    if (this.#failure) throw this.#failure;
    const waiting = Promise.withResolvers<RawBodies>();
    this.#waiting.set(bodies.id, waiting);
    this.#worker ??= this.#start();
    this.#worker.postMessage(bodies, [bodies.bytes]);
    return waiting.promise;
  }

  #start(): Worker {
    return startThread<RawBodies>(threadModule(import.meta.url, "body-packer-worker"), {
      what: "the thread that packs records",
      onMessage: (bodies) => {
        this.#waiting.get(bodies.id)?.resolve(bodies);
        this.#waiting.delete(bodies.id);
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
