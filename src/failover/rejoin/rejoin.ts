import fs from "node:fs";
import path from "node:path";

import type { Logger } from "pino";

import { CaptureState } from "../../capture/capture-state.ts";
import { FILE_INDEX } from "../../capture/files/file-index.ts";
import type { ShippedState } from "../../capture/sqlite/shipper.ts";
import type { Config } from "../../config/config.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import type { LookBack } from "../../replica/look-back.ts";
import { databasePath, prepareStandby, type StandbyPaths } from "../../replica/standby-paths.ts";
import { StandbyState } from "../../replica/standby-state.ts";
import type { Clock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { hasCode, TidemarkError } from "../../runtime/errors.ts";
import { databasesAt } from "./databases-at.ts";
import { divergedDirectory, end, fence, lift, type Report } from "./fence-and-lift.ts";
import type { FormerPrimary } from "./former-primary.ts";
import { findLastCommon, type LastCommon } from "./last-common.ts";
import { requireClosed } from "./move-database.ts";
import { type DatabaseToRejoin, RejoinDatabase } from "./rejoin-database.ts";
import { rejoinAnew } from "./rejoin-anew.ts";
import { RejoinRecord } from "./rejoin-record.ts";
import { rejoinTrees } from "./rejoin-trees.ts";
import { type DivergedDatabase, type RejoinReport, standing } from "./report.ts";

export interface RejoinOptions {
  readonly config: Config;
  readonly former: FormerPrimary;
  readonly log: ChangeLog;
  readonly lookBack: LookBack;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Where nothing tells the last common state: the old databases are kept whole, and the standby is built anew. */
  readonly force: boolean;
  readonly onProgress?: (progress: { phase: string; done: number; total: number }) => void;
}

/**
 * Makes a standby of a former primary: saves what it has and the log has not, brings its databases and trees to the last
 * common offset, moves them to where the standby wants them, and lifts the fence at last. Killed anywhere, the next call
 * goes on. The agents of this host have ended.
 *
 * @throws NOT_FENCED, APPLICATION_RUNNING, NO_COMMON_STATE, STANDBY_FOREIGN, LOG_GAP, what the log and the repositories throw
 */
export async function rejoin(options: RejoinOptions): Promise<RejoinReport> {
  const { clock } = options;
  const beganMs = clock.monotonic();
  const report = await rejoinOnce(options);
  return { ...report, durationMs: Math.round(clock.monotonic() - beganMs) };
}

async function rejoinOnce(options: RejoinOptions): Promise<Report> {
  const { config, former } = options;
  const { standby = "" } = config;
  const begun = RejoinRecord.read(standby);
  if (begun?.now.report) return lift(options, { record: begun, report: begun.now.report });
  using capture = new CaptureState(former.state, config.set);
  const paths = prepareStandby(standby);
  const state = new StandbyState(paths);
  try {
    if (begun?.now.anew) return anew(options, { capture, paths, state, begun });
    return await bring(options, { capture, paths, state, begun });
  } catch (error) {
    if (!options.force || !hasCode(error, "NO_COMMON_STATE", "LOG_GAP")) throw error;
    return anew(options, { capture, paths, state, begun: RejoinRecord.read(standby) });
  } finally {
    state.close();
  }
}

interface Opened {
  readonly capture: CaptureState;
  readonly paths: StandbyPaths;
  readonly state: StandbyState;
  readonly begun: RejoinRecord | undefined;
}

async function bring(options: RejoinOptions, { capture, paths, state, begun }: Opened): Promise<Report> {
  const { former, log, signal } = options;
  const common = await findLastCommon(log, capture, signal);
  const targetOf = (name: string): string => databasePath(paths, name);
  const databases = await databasesAt({ ...options, capture, common, targetOf });
  requireClosed(databases.map(({ source }) => source));
  if (!begun && !former.isPromoted) {
    if (isStandbyAlready(state, databases)) return alreadyStandby(common);
    requireFree({ paths, state, databases, common });
  }
  const record = begun ?? RejoinRecord.begin(paths.root, { former, offset: common.offset });
  requireSame(record, common);
  const { winner, epoch, offset } = common;
  fence(options, { epoch, offset, reason: `host ${winner.host} is the primary from offset ${winner.offset} on` });
  const report = await new Rejoining(options, { common, paths, state, record }).bring(databases);
  return lift(options, { record, report });
}

/** On the user's word. */
function anew(options: RejoinOptions, { begun, ...opened }: Opened): Report {
  const { former } = options;
  const record = begun ?? RejoinRecord.begin(opened.paths.root, { former, offset: 0 });
  record.note({ anew: true });
  fence(options, { epoch: 0, offset: 0, reason: "another host is the primary" });
  rejoinAnew({ ...options, ...opened, record, diverged: () => divergedDirectory(record, options) });
  const diverged = { directory: record.now.directory, databases: savedDatabases(record), trees: record.now.savedTrees };
  const report = { ...standing(undefined), diverged, repaired: { pages: 0, bytes: 0 } };
  end(record, report);
  return lift(options, { record, report });
}

interface Databases {
  readonly databases: readonly DatabaseToRejoin[];
}

interface Begun {
  readonly common: LastCommon;
  readonly paths: StandbyPaths;
  readonly state: StandbyState;
  readonly record: RejoinRecord;
}

/** Its own databases are gone from the application's place, and the standby follows. */
function isStandbyAlready({ position }: StandbyState, databases: readonly DatabaseToRejoin[]): boolean {
  return position !== undefined && databases.every(({ source }) => !fs.existsSync(source));
}

/** @throws STANDBY_FOREIGN when something else than a standby of this log is where the standby is to be */
function requireFree({ paths, state, databases, common }: Omit<Begun, "record"> & Databases): void {
  const { position } = state;
  const isOther = position !== undefined && position.logId !== common.logId;
  // `run` has kept a standby on this host, too: the former primary's own databases take the place of its copies.
  const taken = databases.find(({ name, target }) => fs.existsSync(target) && !state.claimed(name))?.target;
  if (!isOther && taken === undefined) return;
  const what = isOther ? `${paths.root} follows log ${position.logId}` : `${taken} was not made by a standby`;
  throw new TidemarkError(
    "STANDBY_FOREIGN",
    `${what}: the former primary's databases cannot become the standby there`,
    {
      hint: "Give standby: an empty directory.",
    },
  );
}

/** @throws LOG_CORRUPT: what was begun was for another offset */
function requireSame({ now, directory }: RejoinRecord, { offset }: LastCommon): void {
  if (now.offset === offset) return;
  throw new TidemarkError(
    "LOG_CORRUPT",
    `a rejoin was begun for offset ${now.offset}, and the last common offset is ${offset} now (${directory})`,
    { hint: "The log is another one than before. Look at its servers." },
  );
}

class Rejoining {
  readonly #options: RejoinOptions;
  readonly #at: Begun;

  constructor(options: RejoinOptions, at: Begun) {
    this.#options = options;
    this.#at = at;
  }

  async bring(databases: readonly DatabaseToRejoin[]): Promise<Report> {
    const { state, record, common } = this.#at;
    const { onProgress } = this.#options;
    for (const [done, database] of databases.entries()) {
      onProgress?.({ phase: "databases", done, total: databases.length });
      state.claim(database.name);
      using one = new RejoinDatabase(database, this.#context);
      await one.bring();
    }
    const withTrees = hasTrees(this.#options);
    const sources = databases.map(({ source }) => source);
    if (withTrees) await rejoinTrees({ ...this.#options, ...this.#at, sources, diverged: () => this.#diverged() });
    await this.#recordPosition(databases, withTrees);
    crashPoint("rejoin: position recorded");
    const report = reportOf(common, record, databases);
    end(record, report);
    return report;
  }

  get #context(): ConstructorParameters<typeof RejoinDatabase>[1] {
    const { common, paths, record } = this.#at;
    const { offset, timeMs } = common;
    const at = { offset, at: new Date(timeMs).toISOString() };
    return { ...this.#options, record, diverged: () => this.#diverged(), spool: paths.spool, common: at };
  }

  #diverged(): string {
    return divergedDirectory(this.#at.record, this.#options);
  }

  /** All in place: the replica goes on from here. */
  async #recordPosition(databases: readonly DatabaseToRejoin[], withTrees: boolean): Promise<void> {
    const { common, state } = this.#at;
    const { set } = this.#options.config;
    const { logId, offset, hash, timeMs, epoch } = common;
    const saveIndexes = (): void => {
      for (const name of state.indexes.names()) state.indexes.remove(name);
      for (const { name, shipped } of databases) saveIndex(state, { name, shipped, offset });
    };
    await state.record(
      { set, logId, offset, hash, timeMs, epoch, checksumSeed: databases[0]?.shipped.index.seed },
      { filesOffset: withTrees ? offset : undefined, saveIndexes, durable: async () => undefined, lasting: true },
    );
  }
}

function saveIndex(
  state: StandbyState,
  { name, shipped: { index }, offset }: { name: string; shipped: ShippedState; offset: LastCommon["offset"] },
): void {
  index.markAllDirty();
  state.indexes.save(name, index, offset);
}

function reportOf(common: LastCommon, record: RejoinRecord, databases: readonly DatabaseToRejoin[]): Report {
  const { now } = record;
  const pageSizes = new Map(databases.map(({ name, shipped }) => [name, shipped.index.pageSize]));
  const placed = Object.entries(now.placed);
  const bytes = placed.reduce((sum, [name, pages]) => sum + pages * (pageSizes.get(name) ?? 0), now.treeBytes);
  return {
    ...standing(common),
    diverged: { directory: now.directory, databases: savedDatabases(record), trees: now.savedTrees },
    repaired: { pages: placed.reduce((sum, [, pages]) => sum + pages, 0), bytes },
  };
}

function alreadyStandby(common: LastCommon): Report {
  const diverged = { directory: null, databases: [], trees: [] };
  return { ...standing(common), diverged, repaired: { pages: 0, bytes: 0 }, already: true };
}

function savedDatabases({ now }: RejoinRecord): DivergedDatabase[] {
  return Object.values(now.saved).map(({ found }) => found);
}

/** Whether the set has file trees, or had. */
export function hasTrees({ config, former }: Pick<RejoinOptions, "config" | "former">): boolean {
  return config.trees.length > 0 || fs.existsSync(path.join(former.state, FILE_INDEX));
}
