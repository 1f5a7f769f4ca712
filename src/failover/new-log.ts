import os from "node:os";

import type { Config } from "../config/config.ts";
import { encodeRecord, NO_PREVIOUS_HASH } from "../event/codec.ts";
import { BEFORE_FIRST, epoch as toEpoch, type Epoch, type Offset, offset as toOffset } from "../event/positions.ts";
import type { ChangeLog, LogBeginning } from "../log/change-log.ts";
import { LogWriter } from "../log/log-writer.ts";
import { archivedThrough } from "../replica/archived-events.ts";
import type { LookBack } from "../replica/look-back.ts";
import { firstUnlikeRecorded } from "../replica/rebuild-index.ts";
import { prepareStandby } from "../replica/standby-paths.ts";
import { type StandbyPosition, StandbyState } from "../replica/standby-state.ts";
import type { Repository } from "../repository/repository.ts";
import type { Clock } from "../runtime/clock.ts";
import { TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { writerOf } from "./promote.ts";

/** The lost log may have had epochs that nobody here heard of: the first one of a new log is beyond them. */
const EPOCH_STEP = 1000;

/** A point of the lost log, and all that is needed to go on behind it. */
export interface KnownPoint {
  readonly logId: string;
  readonly checksumSeed: bigint;
  readonly offset: Offset;
  /** SHA-256 of the record at `offset`; zeros when it is not known. */
  readonly hash: Uint8Array;
  readonly timeMs: number;
  readonly epoch: Epoch;
}

export interface LostLogOptions {
  readonly config: Config;
  /** standby: as it is. repository: what it holds beyond the standby, or all, is applied. */
  readonly from: "standby" | "repository";
  readonly lookBack: LookBack;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

export interface LostLogExamined {
  /** Behind it the new log begins. */
  readonly point: KnownPoint;
  /** For people: the standby, or the location of the repository. */
  readonly source: string;
  /** Why not, without --force. */
  readonly refusal: TidemarkError | undefined;
}

/**
 * Finds out how far the standby, or a repository, leads. No replica runs on the standby. Changes nothing.
 * @throws STANDBY_FOREIGN, REPOSITORY_EMPTY, AGENT_RUNNING, what reading the repositories throws
 */
export async function examineLost(options: LostLogOptions): Promise<LostLogExamined> {
  const { config, from, lookBack } = options;
  const { standby = "" } = config;
  const paths = prepareStandby(standby);
  const state = new StandbyState(paths);
  try {
    const { position } = state;
    const archived = await newestArchived(options, position);
    const behind = archived && archived.point.offset > (position?.offset ?? BEFORE_FIRST);
    if (from === "repository" && behind) return { ...archived, refusal: undefined };
    if (!position) throw from === "repository" ? nothingArchived(lookBack) : nothingApplied(standby);
    const point = pointOf(position, standby);
    if (behind) return { point, source: standby, refusal: archivedFurther(point, archived) };
    const unlike = await firstUnlikeRecorded(state, { ...options, paths, seed: point.checksumSeed });
    return { point, source: standby, refusal: unlike === undefined ? undefined : unverified(unlike, point) };
  } finally {
    state.close();
  }
}

/** Of the record with which the new log begins. */
export function firstEpochAfter({ epoch }: KnownPoint): Epoch {
  return toEpoch((Math.floor(epoch / EPOCH_STEP) + 1) * EPOCH_STEP);
}

/** How the new log is made. The same for the same standby and point: whoever was killed may do it again. */
export function beginningOf(config: Config, { logId, checksumSeed, offset: after }: KnownPoint): LogBeginning {
  const { set } = config;
  const body = { kind: "genesis", set, logId, checksumSeed, createdBy: "tidemark promote" } as const;
  const genesis = encodeRecord({
    offset: toOffset(1),
    epoch: toEpoch(1),
    timeMs: 0,
    previousHash: NO_PREVIOUS_HASH,
    body,
  });
  return { after, writer: writerOf(config), genesis };
}

/** Appends the record that makes this standby the primary; the former one is fenced when it finds it. */
export async function beginEpoch(
  { config, clock, signal }: Pick<LostLogOptions, "config" | "clock" | "signal">,
  { log, point }: { readonly log: ChangeLog; readonly point: KnownPoint },
): Promise<void> {
  const { logId, checksumSeed, ...at } = point;
  await LogWriter.open({
    log,
    set: config.set,
    identity: { writer: writerOf(config), host: os.hostname() },
    known: undefined,
    clock,
    signal,
    foreignWriterGraceMs: 0,
    takeover: false,
    begins: { logId, checksumSeed, epoch: firstEpochAfter(point), at },
  });
}

function pointOf({ hash, checksumSeed, ...rest }: StandbyPosition, standby: string): KnownPoint {
  if (checksumSeed !== undefined) return { ...rest, checksumSeed, hash: hash ?? NO_PREVIOUS_HASH };
  throw new TidemarkError(
    "STANDBY_FOREIGN",
    `the standby ${standby} was last recorded by an older Tidemark, which did not note what a new log needs`,
    { hint: "Use --from-repository, or copy its databases and files out and begin a new set with them." },
  );
}

interface Archived {
  readonly point: KnownPoint;
  readonly source: string;
}

/** Undefined: no repository holds anything of this log that leads on from the standby or from a base. */
async function newestArchived(
  { from, lookBack, signal }: LostLogOptions,
  position: StandbyPosition | undefined,
): Promise<Archived | undefined> {
  const found: Archived[] = [];
  const look = async (repository: Repository): Promise<undefined> => {
    const point = await newestIn(repository, { position, signal });
    if (point) found.push({ point, source: repository.location });
    return undefined;
  };
  try {
    await lookBack.first(look);
  } catch (error) {
    // Told as a warning already. What the standby has does not depend on it.
    if (from === "repository" && found.length === 0) throw toTidemarkError(error);
  }
  return found.toSorted((one, other) => other.point.offset - one.point.offset)[0];
}

interface Beginning {
  readonly position: StandbyPosition | undefined;
  readonly signal: AbortSignal;
}

async function newestIn(repository: Repository, { position, signal }: Beginning): Promise<KnownPoint | undefined> {
  const base = (await repository.bases.list(signal)).at(-1);
  const manifest = base && (await repository.bases.read(base, signal));
  const checksumSeed = position?.checksumSeed ?? manifest?.checksumSeed;
  const logId = position?.logId ?? manifest?.logId;
  if (checksumSeed === undefined || logId === undefined) return undefined;
  const known = { logId, checksumSeed };
  let best: KnownPoint | undefined =
    manifest && manifest.logId === logId ? { ...known, ...placeOf(manifest) } : undefined;
  for (const from of [position?.offset, manifest?.offset]) {
    if (from === undefined) continue;
    const through = await archivedThrough(repository, from, signal);
    if (through <= (best?.offset ?? BEFORE_FIRST)) continue;
    for await (const segment of repository.segments.list(signal)) {
      if (segment.last !== through) continue;
      const {
        hashAfter: hash,
        lastTimeMs: timeMs,
        lastEpoch: epoch,
        ...head
      } = await repository.segments.head(segment, signal);
      if (head.logId === logId) best = { ...known, offset: through, hash, timeMs, epoch };
    }
  }
  return best;
}

function placeOf({
  offset,
  hash,
  timeMs,
  epoch,
}: KnownPoint): Pick<KnownPoint, "offset" | "hash" | "timeMs" | "epoch"> {
  return { offset, hash, timeMs, epoch };
}

function nothingArchived({ any }: LookBack): TidemarkError {
  return new TidemarkError(
    "REPOSITORY_EMPTY",
    any ? "no repository holds a base of this set, and the standby has applied nothing" : "no repository is configured",
    { hint: "Name it with --repository, or as repository: in tidemark.yml; `tidemark bases` lists what one holds." },
  );
}

function nothingApplied(standby: string): TidemarkError {
  return new TidemarkError("STANDBY_FOREIGN", `the standby ${standby} has applied nothing`, {
    hint: "Promote another standby, or with --from-repository one that is built from a repository.",
  });
}

function archivedFurther({ offset }: KnownPoint, { point, source }: Archived): TidemarkError {
  return new TidemarkError(
    "STANDBY_BEHIND",
    `the standby has applied offset ${offset}, and ${source} leads to offset ${point.offset}`,
    {
      hint: "Use --from-repository: the standby then takes from there what it lacks. With --force it is promoted as it is.",
    },
  );
}

function unverified(name: string, { offset }: KnownPoint): TidemarkError {
  return new TidemarkError(
    "STANDBY_UNVERIFIED",
    `the standby's ${name} is not what was recorded of it at offset ${offset}: its replica was killed while it applied what came next, or it was damaged or written to`,
    {
      hint:
        "A repository that leads further puts it right (--from-repository); so does another standby. With --force it is promoted as it is: " +
        "each database is at one of its commits, up to a second after that offset if the replica was killed; other standbys are to be built anew then.",
    },
  );
}
