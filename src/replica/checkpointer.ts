import type { ReplicaConfig } from "../config/config.ts";
import { sleep, type Clock } from "../runtime/clock.ts";
import type { StandbyDatabase } from "./standby-database.ts";

/** Between two tries that readers starved. */
const RETRY_MS = 250;
/** The same while appending waits: readers then all come to stand at the end of the WAL, and one try succeeds. */
const WAITING_RETRY_MS = 10;

/**
 * Keeps the WALs of a standby short. Steady overlapping readers starve a checkpoint for as long as commits come in;
 * past `walMaxBytes` appending waits, and they cannot any more.
 */
export class Checkpointer {
  readonly #config: ReplicaConfig;
  readonly #clock: Clock;
  readonly #nextTryMs = new Map<StandbyDatabase, number>();
  #waitingFor: StandbyDatabase | undefined;

  constructor(config: ReplicaConfig, clock: Clock) {
    this.#config = config;
    this.#clock = clock;
  }

  /** The database whose readers keep appending waiting. */
  get waitingFor(): StandbyDatabase | undefined {
    return this.#waitingFor;
  }

  due(databases: readonly StandbyDatabase[]): boolean {
    return databases.some((database) => this.#isLong(database));
  }

  /** Tries each long WAL once, unless it was tried just now. */
  run(databases: readonly StandbyDatabase[]): void {
    for (const database of databases) {
      if (!this.#isLong(database) || this.#clock.monotonic() < (this.#nextTryMs.get(database) ?? 0)) continue;
      if (database.writer?.checkpoint() === false) this.#nextTryMs.set(database, this.#clock.monotonic() + RETRY_MS);
    }
  }

  /** Resolves when the WAL has room for more; false when `signal` aborted before. */
  async room(database: StandbyDatabase, signal: AbortSignal): Promise<boolean> {
    try {
      while ((database.writer?.walBytes ?? 0) > this.#config.walMaxBytes) {
        if (database.writer?.checkpoint() === true) return true;
        if (signal.aborted) return false;
        // A base can be made again: nothing waits for it.
        database.writer?.letGo();
        this.#waitingFor = database;
        await sleep(WAITING_RETRY_MS, signal);
      }
      return true;
    } finally {
      this.#waitingFor = undefined;
    }
  }

  #isLong(database: StandbyDatabase): boolean {
    return (database.writer?.walBytes ?? 0) > this.#config.checkpointBytes;
  }
}
