import path from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import { TidemarkError } from "../../runtime/errors.ts";
import { invariant } from "../../runtime/invariant.ts";
import type { CheckpointReply, CheckpointRequest, PassiveResult } from "./checkpoint-worker.ts";

type Order = CheckpointRequest extends infer R ? (R extends { id: number } ? Omit<R, "id"> : never) : never;

/** Speaks to the one checkpoint worker of a capture agent. */
export class Checkpointer implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<PassiveResult | boolean>>();
  #nextId = 1;
  #dead: TidemarkError | undefined;

  constructor() {
    // From source the file ends in .ts, from dist in .js.
    const extension = path.extname(fileURLToPath(import.meta.url));
    this.#worker = new Worker(new URL(`./checkpoint-worker${extension}`, import.meta.url));
    this.#worker.on("message", (reply: CheckpointReply) => this.#settle(reply));
    this.#worker.on("error", (error) => this.#die(error));
    this.#worker.unref();
  }

  /** Our own PASSIVE checkpoint: never waits for anybody. */
  async passive(databasePath: string): Promise<PassiveResult> {
    const result = await this.#order({ kind: "passive", path: databasePath });
    invariant(typeof result === "object", "passive returns counts");
    return result;
  }

  /** Takes the write lock within `maxMs`; false when a writer kept it all the time. */
  async lock(databasePath: string, maxMs: number): Promise<boolean> {
    return (await this.#order({ kind: "lock", path: databasePath, maxMs })) === true;
  }

  async unlock(databasePath: string): Promise<void> {
    await this.#order({ kind: "unlock", path: databasePath });
  }

  /** Closes the worker's connections on a database; before its raw descriptors are closed. */
  async close(databasePath: string): Promise<void> {
    await this.#order({ kind: "close", path: databasePath });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }

  async #order(order: Order): Promise<PassiveResult | boolean> {
    if (this.#dead) throw this.#dead;
    const id = this.#nextId++;
    const waiting = Promise.withResolvers<PassiveResult | boolean>();
    this.#waiting.set(id, waiting);
    this.#worker.ref();
    this.#worker.postMessage({ ...order, id });
    return waiting.promise;
  }

  #settle(reply: CheckpointReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#worker.unref();
    if (reply.ok) waiting?.resolve(reply.value);
    else waiting?.reject(failure(reply.message));
  }

  #die(error: unknown): void {
    this.#dead = failure(String(error));
    for (const waiting of this.#waiting.values()) waiting.reject(this.#dead);
    this.#waiting.clear();
  }
}

function failure(message: string): TidemarkError {
  return new TidemarkError("IO", `checkpoint: ${message}`, {
    hint: "Nothing to do: it is tried again. If it persists, check the disk and the rights on the database.",
  });
}
