import type { Logger } from "pino";

import type { DatabaseConfig } from "../config/config.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { KnownHead, LogWriter } from "../log/log-writer.ts";
import type { CaptureState, StoredCapture } from "./capture-state.ts";
import { recoverIndexes } from "./recover.ts";
import type { ScrubRecord } from "./sqlite/scrub.ts";
import type { ShippedState } from "./sqlite/shipper.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { hasCode, toTidemarkError } from "../runtime/errors.ts";

/**
 * After so many events, or so long, what is stored of quiet databases is said to hold at the head: a start reads no further
 * back, and never further than a log that is trimmed goes.
 */
const RAISE_EVERY_EVENTS = 1000;
const RAISE_EVERY_MS = 10 * 60_000;

export interface StoredIndexesOptions {
  readonly state: CaptureState;
  readonly log: ChangeLog;
  readonly writer: LogWriter;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/**
 * What the agent's state holds of each database: brought up to the log's head at the start, stored again as databases
 * move, and kept from growing old while they do not.
 */
export class StoredIndexes {
  /** Name and path of what this state has captured before. */
  readonly captured: ReadonlyMap<string, string>;
  readonly #state: CaptureState;
  readonly #writer: LogWriter;
  readonly #recovered: Map<string, ShippedState>;
  /** Databases of which nothing was sent since they were stored. */
  readonly #current: Set<string>;
  /** Since when commits of a database may have passed unseen, ms since 1970; only until it is stored. */
  readonly #doubts: Map<string, number>;
  readonly #logger: Logger;
  #raisedAt: number;
  #raisedTimeMs: number;
  #problem: string | undefined;

  private constructor(
    { state, writer, logger }: StoredIndexesOptions,
    { recovered, current }: { recovered: Map<string, ShippedState>; current: readonly string[] },
  ) {
    this.captured = state.captured();
    this.#state = state;
    this.#writer = writer;
    this.#logger = logger;
    this.#recovered = recovered;
    this.#current = new Set(current);
    this.#doubts = state.doubt(recovered.keys(), writer.openedAfterMs);
    this.#raisedAt = writer.acknowledged.offset;
    this.#raisedTimeMs = writer.acknowledged.timeMs;
  }

  static async recover(options: StoredIndexesOptions): Promise<StoredIndexes> {
    const { state, log, writer, signal } = options;
    const known = headOf(writer);
    state.saveKnown(known);
    crashPoint("capture: head known");
    const captured = state.captured();
    const stored = new Map<string, StoredCapture>();
    for (const name of captured.keys()) {
      const one = state.load(name, writer.checksumSeed);
      if (one) stored.set(name, one);
    }
    const recovered = await recoverIndexes({ log, stored, head: known.offset, signal });
    crashPoint("capture: indexes replayed");
    const current: string[] = [];
    for (const [name, shipped] of recovered) {
      // What is left over of a transaction is found in the log again until it is decided what becomes of it.
      if (shipped.leftOver) continue;
      current.push(name);
      // Others hold at the head as they are stored: nothing of them came since.
      if (shipped !== stored.get(name)) state.save(name, captured.get(name) ?? "", { shipped, known });
    }
    state.raise(current, known);
    crashPoint("capture: indexes raised");
    return new StoredIndexes(options, { recovered, current });
  }

  /** What the log holds of a database; undefined when that is not known: it needs a full copy. */
  take(name: string): ShippedState | undefined {
    const shipped = this.#recovered.get(name);
    this.#recovered.delete(name);
    return shipped;
  }

  /** When the log last held everything of a database, ms since 1970; 0: never. Until it is captured again. */
  heldAllUntilMs(name: string): number {
    return this.#doubts.get(name) ?? 0;
  }

  /** Something of this database is sent. */
  outdated(name: string): void {
    this.#current.delete(name);
  }

  /** Why the state was not stored the last time; undefined when it was. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Stores an index as it is now, all of which the log has acknowledged. False when there is no room for it. */
  save({ name, path }: DatabaseConfig, shipped: ShippedState): boolean {
    crashPoint("ship: acknowledged");
    const known = headOf(this.#writer);
    if (!this.#attempt(() => this.#state.save(name, path, { shipped, known }))) return false;
    crashPoint("ship: index stored");
    this.#current.add(name);
    const trusted = shipped.copy === undefined && this.#doubts.has(name);
    if (trusted && this.#attempt(() => this.#state.trust(name))) this.#doubts.delete(name);
    this.raiseIfDue();
    return true;
  }

  forgetFile(name: string): void {
    this.#attempt(() => this.#state.forgetFile(name));
  }

  saveScrub(name: string, record: ScrubRecord): void {
    this.#attempt(() => this.#state.saveScrub(name, record));
  }

  raiseIfDue(): void {
    const known = headOf(this.#writer);
    const { timeMs } = this.#writer.acknowledged;
    if (known.offset - this.#raisedAt < RAISE_EVERY_EVENTS && timeMs - this.#raisedTimeMs < RAISE_EVERY_MS) return;
    if (!this.#attempt(() => this.#state.raise(this.#current, known))) return;
    this.#raisedAt = known.offset;
    this.#raisedTimeMs = timeMs;
  }

  /**
   * What is stored while the agent runs only spares the next start work: without room for it capture goes on.
   * Whether it was stored.
   */
  #attempt(store: () => void): boolean {
    try {
      store();
      this.#problem = undefined;
      return true;
    } catch (error) {
      const problem = toTidemarkError(error);
      if (!hasCode(problem, "DISK_FULL", "IO")) throw error;
      const { code, hint, message } = problem;
      if (this.#problem !== message)
        this.#logger.warn({ code, hint }, `the agent's state cannot be stored: ${message}`);
      this.#problem = message;
      return false;
    }
  }
}

function headOf({ logId, epoch, acknowledged }: LogWriter): KnownHead {
  return { logId, offset: acknowledged.offset, hash: acknowledged.hash, epoch };
}
