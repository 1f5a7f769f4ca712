import type { DatabaseConfig } from "../config/config.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { KnownHead, LogWriter } from "../log/log-writer.ts";
import type { CaptureState, StoredCapture } from "./capture-state.ts";
import { recoverIndexes } from "./recover.ts";
import type { ShippedState } from "./sqlite/shipper.ts";
import { crashPoint } from "../runtime/crash-point.ts";

/** After so many events what is stored of quiet databases is said to hold at the head: a start reads no further back. */
const RAISE_EVERY_EVENTS = 1000;

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
  #raisedAt: number;

  private constructor(
    state: CaptureState,
    writer: LogWriter,
    { recovered, current }: { recovered: Map<string, ShippedState>; current: readonly string[] },
  ) {
    this.captured = state.captured();
    this.#state = state;
    this.#writer = writer;
    this.#recovered = recovered;
    this.#current = new Set(current);
    this.#doubts = state.doubt(recovered.keys(), writer.openedAfterMs);
    this.#raisedAt = writer.acknowledged.offset;
  }

  static async recover(options: {
    readonly state: CaptureState;
    readonly log: ChangeLog;
    readonly writer: LogWriter;
    readonly signal: AbortSignal;
  }): Promise<StoredIndexes> {
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
    return new StoredIndexes(state, writer, { recovered, current });
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

  /** Stores an index as it is now, all of which the log has acknowledged. */
  save({ name, path }: DatabaseConfig, shipped: ShippedState): true {
    crashPoint("ship: acknowledged");
    this.#state.save(name, path, { shipped, known: headOf(this.#writer) });
    crashPoint("ship: index stored");
    this.#current.add(name);
    if (shipped.copy === undefined && this.#doubts.delete(name)) this.#state.trust(name);
    this.raiseIfDue();
    return true;
  }

  raiseIfDue(): void {
    const known = headOf(this.#writer);
    if (known.offset - this.#raisedAt < RAISE_EVERY_EVENTS) return;
    this.#raisedAt = known.offset;
    this.#state.raise(this.#current, known);
  }
}

function headOf({ logId, acknowledged }: LogWriter): KnownHead {
  return { logId, offset: acknowledged.offset, hash: acknowledged.hash };
}
