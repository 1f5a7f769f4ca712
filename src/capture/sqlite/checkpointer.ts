import path from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import { TidemarkError } from "../../runtime/errors.ts";
import { invariant } from "../../runtime/invariant.ts";
import type {
  CheckpointReply,
  CheckpointRequest,
  CheckpointValue,
  PassiveResult,
  RestartRequest,
} from "./checkpoint-worker.ts";

type Order = CheckpointRequest extends infer R ? (R extends { id: number } ? Omit<R, "id"> : never) : never;

/** What may be asked of the worker by whoever has it to himself. */
export interface WorkerTurn {
  /** Our own PASSIVE checkpoint: never waits for anybody. */
  passive(databasePath: string): Promise<PassiveResult>;
  /** Empties the WAL if no other process has the database open; false when one has. */
  truncateIfAlone(databasePath: string, shmFd: number): Promise<boolean>;
  /** Takes the write lock within `maxMs`; false when a writer kept it all the time. */
  lock(databasePath: string, maxMs: number): Promise<boolean>;
  unlock(databasePath: string): Promise<void>;
  /** Takes a pin that `unlock` ends. */
  pin(databasePath: string): Promise<void>;
  /**
   * Lets that pin go until the WAL has restarted, for at most `maxMs`, and takes it again. What stands in the WAL after
   * `afterFrame` when it has restarted; undefined when it has not.
   */
  awaitRestart(request: RestartRequest): Promise<Uint8Array | undefined>;
}

/**
 * Speaks to the one checkpoint worker of a capture agent. One at a time has it: while the write lock of one database
 * is held, nothing of another one's must stand before its release.
 */
export class Checkpointer implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<CheckpointValue>>();
  /** Databases that the worker has connections to. */
  readonly #open = new Set<string>();
  #nextId = 1;
  #lastTurn = Promise.resolve();
  #dead: TidemarkError | undefined;
  readonly #turn: WorkerTurn = {
    passive: async (databasePath) => {
      const result = await this.#order({ kind: "passive", path: databasePath });
      invariant(typeof result === "object" && "walFrames" in result, "passive returns counts");
      return result;
    },
    truncateIfAlone: async (databasePath, shmFd) =>
      (await this.#order({ kind: "truncate", path: databasePath, shmFd })) === true,
    lock: async (databasePath, maxMs) => (await this.#order({ kind: "lock", path: databasePath, maxMs })) === true,
    pin: async (databasePath) => void (await this.#order({ kind: "pin", path: databasePath })),
    awaitRestart: async (request) => {
      const tail = await this.#order({ kind: "await-restart", ...request });
      return tail instanceof Uint8Array ? tail : undefined;
    },
    unlock: async (databasePath) => void (await this.#order({ kind: "unlock", path: databasePath })),
  };

  constructor() {
    // From source the file ends in .ts, from dist in .js.
    const extension = path.extname(fileURLToPath(import.meta.url));
    this.#worker = new Worker(new URL(`./checkpoint-worker${extension}`, import.meta.url));
    this.#worker.on("message", (reply: CheckpointReply) => this.#settle(reply));
    this.#worker.on("error", (error) => this.#die(error));
    this.#worker.unref();
  }

  /** Runs `work` when nobody else has the worker. */
  async exclusively<T>(work: (worker: WorkerTurn) => Promise<T>): Promise<T> {
    const before = this.#lastTurn;
    const turn = Promise.withResolvers<void>();
    this.#lastTurn = turn.promise;
    await before;
    try {
      return await work(this.#turn);
    } finally {
      turn.resolve();
    }
  }

  async passive(databasePath: string): Promise<PassiveResult> {
    return this.exclusively(async (worker) => worker.passive(databasePath));
  }

  /** Brings what is written to these open files onto the disk. */
  async sync(fds: readonly number[]): Promise<void> {
    await this.exclusively(async () => this.#order({ kind: "sync", fds }));
  }

  async truncateIfAlone(databasePath: string, shmFd: number): Promise<boolean> {
    return this.exclusively(async (worker) => worker.truncateIfAlone(databasePath, shmFd));
  }

  /** Closes the worker's connections on a database; before its raw descriptors are closed. */
  async close(databasePath: string): Promise<void> {
    await this.#order({ kind: "close", path: databasePath });
    this.#open.delete(databasePath);
  }

  /** Spares the descriptors and memory of connections that a quiet database does not need. */
  async closeIfOpen(databasePath: string): Promise<void> {
    if (this.#open.has(databasePath)) await this.exclusively(async () => this.close(databasePath));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }

  async #order(order: Order): Promise<CheckpointValue> {
    if (this.#dead) throw this.#dead;
    if ("path" in order) this.#open.add(order.path);
    const id = this.#nextId++;
    const waiting = Promise.withResolvers<CheckpointValue>();
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
