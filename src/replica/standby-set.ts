import fs from "node:fs";

import type { Logger } from "pino";

import type { LogEvent } from "../event/kinds.ts";
import { BEFORE_FIRST, offset as toOffset, type Epoch, type Offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { LogIdentity } from "../log/log-reader.ts";
import type { Clock } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import { StandbyFiles } from "./files/standby-files.ts";
import type { LookBack } from "./look-back.ts";
import { StandbyDatabase } from "./standby-database.ts";
import { databasePath, type StandbyPaths } from "./standby-paths.ts";
import type { StandbyPosition, StandbyState } from "./standby-state.ts";

export interface StandbySetOptions {
  readonly paths: StandbyPaths;
  readonly state: StandbyState;
  readonly identity: LogIdentity;
  readonly clock: Clock;
  readonly log: ChangeLog;
  readonly lookBack: LookBack;
  readonly logger: Logger;
}

/** The databases and trees of a standby and their common position in the log. */
export class StandbySet {
  readonly files: StandbyFiles;
  readonly #options: StandbySetOptions;
  readonly #databases = new Map<string, StandbyDatabase>();
  readonly #reseeding: boolean;
  /** Last event taken. */
  #taken: Offset = BEFORE_FIRST;
  #takenTimeMs = 0;
  #epoch: Epoch;
  #recorded: Offset | undefined;

  /** @throws STANDBY_FOREIGN when the standby follows another log or set */
  constructor(options: StandbySetOptions) {
    this.#options = options;
    const { state, identity } = options;
    this.#reseeding = state.reseeding;
    const stored = state.position;
    this.#epoch = stored?.epoch ?? (0 as Epoch);
    if (stored) requireSameLog(options, stored);
    this.files = new StandbyFiles({ ...options, logId: identity.logId, replaceTrees: this.#reseeding });
    if (!stored) return;
    this.#taken = stored.offset;
    this.#takenTimeMs = stored.timeMs;
    this.#recorded = stored.offset;
    try {
      for (const name of options.state.indexes.names()) this.#database(name);
      // All databases are in their place, so nothing needs what a reseed or a repair that was killed at its end left.
      if (!this.#reseeding) fs.rmSync(options.paths.aside, { recursive: true, force: true });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Seed of the page hashes. */
  get seed(): bigint {
    return this.#options.identity.checksumSeed;
  }

  /** Whether events to come belong to some that were taken: a transaction, or a list of chunks, is not whole. */
  get unfinished(): boolean {
    return this.files.unfinished || this.databases.some(({ openSince }) => openSince !== undefined);
  }

  get databases(): readonly StandbyDatabase[] {
    return [...this.#databases.values()];
  }

  get taken(): Offset {
    return this.#taken;
  }

  get takenTimeMs(): number {
    return this.#takenTimeMs;
  }

  /** Whether something is to be recorded. */
  get dirty(): boolean {
    return this.#taken !== this.#recorded;
  }

  /** Whether something was taken that is not shown. */
  get pending(): boolean {
    return this.files.pending || this.databases.some((database) => database.pending);
  }

  /** Whether what was taken cannot be shown: it must be read again. */
  get torn(): boolean {
    return this.files.torn || this.databases.some((database) => database.torn);
  }

  /** Nothing was applied yet: reading begins after `at`. */
  beginAfter(at: Offset): void {
    this.#taken = at;
  }

  /** A base was taken as a whole: what follows comes after it. */
  seeded({ offset, timeMs, epoch }: Pick<StandbyPosition, "offset" | "timeMs" | "epoch">): void {
    this.files.seeded(offset);
    this.#taken = offset;
    this.#takenTimeMs = timeMs;
    this.#epoch = epoch;
  }

  /** Proves an event and gathers its pages. Events that a database has already are skipped. */
  take(event: LogEvent): void {
    if (event.epoch < this.#epoch) throw epochFell(event, this.#epoch);
    const { body } = event;
    if (body.kind === "sqlite.part") this.#database(body.database).takePart(event, body);
    if (body.kind === "sqlite.commit") this.#database(body.database).takeCommit(event, body);
    this.files.take(event);
    this.#epoch = event.epoch;
    this.#taken = event.offset;
    this.#takenTimeMs = event.timeMs;
  }

  /** @throws LOG_GAP when the log has events of a database but no full copy to begin with */
  requireSeeded(): void {
    const database = this.databases.find((candidate) => candidate.unseeded !== undefined);
    if (database) throw unseeded(database);
  }

  /**
   * Records the position. What is recorded is the state at the call; it is committed after the WALs were fsynced, so a
   * position never names pages that a power cut could take back.
   */
  async record(hashAt: (offset: Offset) => Promise<Uint8Array | undefined>): Promise<void> {
    const { state, identity } = this.#options;
    const databases = this.databases;
    invariant(!this.pending, "recording while something is pending");
    const taken = this.#taken;
    const open = databases.flatMap(({ openSince }) => openSince ?? []);
    const at = toOffset(Math.min(taken, ...open.map((first) => first.offset - 1)));
    // Read again, the parts must not look like those of a writer that was fenced since.
    const epoch = Math.min(this.#epoch, ...open.map((first) => first.epoch)) as Epoch;
    const hash = await hashAt(at);
    const { set, logId, checksumSeed } = identity;
    const position = { set, logId, checksumSeed, offset: at, hash, timeMs: this.#takenTimeMs, epoch };
    const changed = databases.filter((database) => database.dirty);
    const saveIndexes = (): void => {
      for (const database of changed) database.save();
    };
    const durable = async (): Promise<void> => {
      await Promise.all([this.files.sync(), ...changed.map(async (database) => database.writer?.sync())]);
      crashPoint("standby: synced");
      this.files.commit();
    };
    await state.record(position, { filesOffset: this.files.taken, saveIndexes, durable });
    crashPoint("standby: recorded");
    this.#recorded = taken;
    if (this.#reseeding) fs.rmSync(this.#options.paths.aside, { recursive: true, force: true });
  }

  close(): void {
    this.files.close();
    for (const database of this.#databases.values()) database.close();
  }

  #database(name: string): StandbyDatabase {
    const known = this.#databases.get(name);
    if (known) return known;
    const { paths, state, identity, clock } = this.#options;
    const database = new StandbyDatabase({
      name,
      path: databasePath(paths, name),
      paths,
      state,
      seed: identity.checksumSeed,
      clock,
      replaceFile: this.#reseeding,
    });
    this.#databases.set(name, database);
    return database;
  }
}

function requireSameLog(options: StandbySetOptions, stored: StandbyPosition): void {
  const { identity, paths } = options;
  if (stored.logId === identity.logId && stored.set === identity.set) return;
  throw new TidemarkError(
    "STANDBY_FOREIGN",
    `the standby ${paths.root} follows log ${stored.logId} of set ${stored.set}, not log ${identity.logId} of set ${identity.set}`,
    { hint: "Correct the log or the standby directory, or build the standby anew with `tidemark replica --reseed`." },
  );
}

function epochFell(event: LogEvent, epoch: Epoch): TidemarkError {
  return new TidemarkError(
    "LOG_CORRUPT",
    `offset ${event.offset} is of epoch ${event.epoch}, after epoch ${epoch} had begun`,
    {
      hint: "A fenced writer went on writing, or the log was put together by hand. Keep the standby as it is and look at the log.",
    },
  );
}

function unseeded(database: StandbyDatabase): TidemarkError {
  return new TidemarkError(
    "LOG_GAP",
    `the log holds no full copy of ${database.name} before offset ${database.unseeded ?? 0}, where its events begin`,
    {
      hint: "Stop capture on the primary, remove its state directory and start it again: it ships a new full copy, and the standby builds on that.",
    },
  );
}
