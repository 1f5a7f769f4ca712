import fs from "node:fs";
import path from "node:path";

import type { Logger } from "pino";

import { CaptureState } from "../../capture/capture-state.ts";
import { FILE_INDEX } from "../../capture/files/file-index.ts";
import { recoverIndexes } from "../../capture/recover.ts";
import type { ShippedState } from "../../capture/sqlite/shipper.ts";
import type { Config } from "../../config/config.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import type { LookBack } from "../../replica/look-back.ts";
import { databasePath, prepareStandby, type StandbyPaths } from "../../replica/standby-paths.ts";
import { StandbyState } from "../../replica/standby-state.ts";
import type { Clock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { makeDirectory, syncDirectory } from "../../runtime/durable-directory.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import { fenceFile, readFence, writeFence } from "../fence-record.ts";
import { removeOffer } from "../offer-record.ts";
import { dropRole } from "../standby-role.ts";
import type { FormerPrimary } from "./former-primary.ts";
import { findLastCommon, type LastCommon } from "./last-common.ts";
import { requireClosed } from "./move-database.ts";
import { type DatabaseToRejoin, RejoinDatabase } from "./rejoin-database.ts";
import { RejoinRecord } from "./rejoin-record.ts";
import { rejoinTrees } from "./rejoin-trees.ts";
import type { RejoinReport } from "./report.ts";

export interface RejoinOptions {
  readonly config: Config;
  readonly former: FormerPrimary;
  readonly log: ChangeLog;
  readonly lookBack: LookBack;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
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

type Report = Omit<RejoinReport, "durationMs">;

async function rejoinOnce(options: RejoinOptions): Promise<Report> {
  const { config, former, log, signal } = options;
  const { standby = "" } = config;
  const begun = RejoinRecord.read(standby);
  if (begun?.now.report) return lift(options, { record: begun, report: begun.now.report });
  using capture = new CaptureState(former.state, config.set);
  const common = await findLastCommon(log, capture, signal);
  const paths = prepareStandby(standby);
  const state = new StandbyState(paths);
  try {
    const databases = await databasesAt(options, { capture, common, paths });
    requireClosed(databases.map(({ source }) => source));
    if (!begun && !former.isPromoted) {
      if (isStandbyAlready(state, databases)) return alreadyStandby(common);
      requireFree({ paths, state, databases });
    }
    const record = begun ?? RejoinRecord.begin(standby, { former, offset: common.offset });
    requireSame(record, common);
    fence(options, common);
    const report = await new Rejoining(options, { common, paths, state, record }).bring(databases);
    return lift(options, { record, report });
  } finally {
    state.close();
  }
}

interface Standby {
  readonly common: LastCommon;
  readonly paths: StandbyPaths;
}

/** @throws NO_COMMON_STATE */
async function databasesAt(
  { former, log, signal }: RejoinOptions,
  { capture, common, paths }: Standby & { readonly capture: CaptureState },
): Promise<DatabaseToRejoin[]> {
  const captured = capture.captured();
  const stored = new Map(
    [...captured.keys()].flatMap((name) => {
      const one = capture.load(name, common.checksumSeed);
      return one ? [[name, one] as const] : [];
    }),
  );
  const shipped = await recoverIndexes({ log, stored, head: common.offset, signal });
  return [...captured].map(([name, source]) => {
    const known = shipped.get(name);
    if (!known || known.copy) throw notKnown(name);
    const target = databasePath(paths, name);
    return { name, source: former.isPromoted ? target : source, target, shipped: known };
  });
}

interface Databases {
  readonly databases: readonly DatabaseToRejoin[];
}

interface Begun extends Standby {
  readonly state: StandbyState;
  readonly record: RejoinRecord;
}

/** Its own databases are gone from the application's place, and the standby follows. */
function isStandbyAlready({ position }: StandbyState, databases: readonly DatabaseToRejoin[]): boolean {
  return position !== undefined && databases.every(({ source }) => !fs.existsSync(source));
}

/** @throws STANDBY_FOREIGN when something else is where the standby is to be */
function requireFree({ paths, state, databases }: Pick<Begun, "paths" | "state"> & Databases): void {
  const taken = databases.find(({ target }) => fs.existsSync(target))?.target;
  if (!state.position && taken === undefined) return;
  const what = state.position ? `${paths.root} is a standby already, of offset ${state.position.offset}` : taken;
  throw new TidemarkError(
    "STANDBY_FOREIGN",
    `${what}: the former primary's own databases cannot become the standby there`,
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

/** So that an agent which is started before this is finished captures nothing. */
function fence({ config, former, clock }: RejoinOptions, { epoch, offset, winner }: LastCommon): void {
  if (readFence(former.state)) return;
  const reason = `host ${winner.host} is the primary from offset ${winner.offset} on`;
  writeFence(former.state, { set: config.set, epoch, offset, reason, at: new Date(clock.now()).toISOString() });
  crashPoint("rejoin: fenced");
}

/** The last step: from here on the host is a standby. */
function lift(
  { former, clock, config }: RejoinOptions,
  { record, report }: { readonly record: RejoinRecord; readonly report: Report },
): Report {
  if (former.isPromoted) dropRole(config.standby ?? "");
  removeOffer(former.state);
  crashPoint("rejoin: role dropped");
  const file = fenceFile(former.state);
  if (fs.existsSync(file)) {
    fs.renameSync(file, path.join(former.state, `fenced-${stampOf(clock)}.json`));
    syncDirectory(former.state);
  }
  crashPoint("rejoin: fence lifted");
  record.remove();
  return report;
}

/** For names of files. */
function stampOf(clock: Clock): string {
  return new Date(clock.now())
    .toISOString()
    .replaceAll(":", "")
    .replace(/\.\d+Z$/, "Z");
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
    const { onProgress, former, config } = this.#options;
    for (const [done, database] of databases.entries()) {
      onProgress?.({ phase: "databases", done, total: databases.length });
      state.claim(database.name);
      using one = new RejoinDatabase(database, this.#context);
      await one.bring();
    }
    const hasTrees = config.trees.length > 0 || fs.existsSync(path.join(former.state, FILE_INDEX));
    if (hasTrees) await rejoinTrees({ ...this.#options, ...this.#at, diverged: () => this.#diverged() });
    await this.#recordPosition(databases, hasTrees);
    crashPoint("rejoin: position recorded");
    const report = reportOf(common, record, databases);
    record.note({ report });
    return report;
  }

  get #context(): ConstructorParameters<typeof RejoinDatabase>[1] {
    const { common, paths, record } = this.#at;
    const { offset, timeMs } = common;
    const at = { offset, at: new Date(timeMs).toISOString() };
    return { ...this.#options, record, diverged: () => this.#diverged(), spool: paths.spool, common: at };
  }

  #diverged(): string {
    const { record } = this.#at;
    const { clock, former } = this.#options;
    const directory = record.now.directory ?? path.join(former.state, `diverged-${stampOf(clock)}`);
    makeDirectory(directory, { mode: 0o700 });
    if (record.now.directory === null) record.note({ directory });
    return directory;
  }

  /** All in place: the replica goes on from here. */
  async #recordPosition(databases: readonly DatabaseToRejoin[], hasTrees: boolean): Promise<void> {
    const { common, state } = this.#at;
    const { set } = this.#options.config;
    const { logId, offset, hash, timeMs, epoch } = common;
    const saveIndexes = (): void => {
      for (const name of state.indexes.names()) state.indexes.remove(name);
      for (const { name, shipped } of databases) saveIndex(state, { name, shipped, offset });
    };
    await state.record(
      { set, logId, offset, hash, timeMs, epoch },
      { filesOffset: hasTrees ? offset : undefined, saveIndexes, durable: async () => undefined },
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

function reportOf(common: LastCommon, { now }: RejoinRecord, databases: readonly DatabaseToRejoin[]): Report {
  const pageSizes = new Map(databases.map(({ name, shipped }) => [name, shipped.index.pageSize]));
  const placed = Object.entries(now.placed);
  const bytes = placed.reduce((sum, [name, pages]) => sum + pages * (pageSizes.get(name) ?? 0), now.treeBytes);
  const saved = Object.values(now.saved).map(({ found }) => found);
  return {
    ...standing(common),
    diverged: { directory: now.directory, databases: saved, trees: now.savedTrees ?? [] },
    repaired: { pages: placed.reduce((sum, [, pages]) => sum + pages, 0), bytes },
  };
}

function alreadyStandby(common: LastCommon): Report {
  const diverged = { directory: null, databases: [], trees: [] };
  return { ...standing(common), diverged, repaired: { pages: 0, bytes: 0 }, already: true };
}

function standing({ offset, timeMs, winner, contains }: LastCommon): Omit<Report, "diverged" | "repaired"> {
  return {
    ok: true,
    offset,
    at: new Date(timeMs).toISOString(),
    epoch: winner.epoch,
    primary: winner.host,
    takenBack: contains === undefined ? null : { after: contains, through: offset },
    anew: false,
  };
}

function notKnown(name: string): TidemarkError {
  return new TidemarkError(
    "NO_COMMON_STATE",
    `it is not known here what the log holds of ${name} at the last common offset`,
    {
      hint: "`tidemark rejoin --force` keeps the old databases whole and has the standby built anew.",
    },
  );
}
