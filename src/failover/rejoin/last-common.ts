import type { CaptureState } from "../../capture/capture-state.ts";
import { type Epoch, type Offset, offset as toOffset } from "../../event/positions.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import { recreatedError } from "../../log/log-errors.ts";
import { type CurrentEpoch, epochsOf, hashAt, headerAt, readGenesis } from "../../log/log-reader.ts";
import { hasCode, TidemarkError } from "../../runtime/errors.ts";

/** Where the way of a former primary and that of the log part. */
export interface LastCommon {
  readonly logId: string;
  readonly checksumSeed: bigint;
  /** Last record before another writer's epoch began: everything up to here this host wrote, or had applied. */
  readonly offset: Offset;
  readonly hash: Uint8Array;
  /** Of that record. */
  readonly epoch: Epoch;
  readonly timeMs: number;
  /** Who came after. */
  readonly winner: { readonly epoch: Epoch; readonly host: string; readonly offset: Offset };
  /** The epoch was begun by a standby that lacked what came after this offset: undefined when it had everything. */
  readonly contains: Offset | undefined;
}

/** @throws NOT_FENCED when no other writer came after this host, LOG_GAP when where that was is not in the log any more */
export async function findLastCommon(log: ChangeLog, state: CaptureState, signal: AbortSignal): Promise<LastCommon> {
  const { known, writer } = state;
  if (!known) throw notFenced(`${state.directory} is of no capture that ever wrote a log`);
  const { logId, checksumSeed } = await readGenesis(log);
  if (logId !== known.logId)
    throw recreatedError(log.location, `its identity is ${logId}, this host wrote ${known.logId}`);
  const after = await epochAfter(log, { writer, epoch: known.epoch ?? 0 });
  if (!after) throw notFenced(`${log.location} was written last by this host`);
  const { start } = after;
  if (!start || after.offset <= known.offset) throw outOfReach(log.location, known.offset);
  // The first record of the epoch; a genesis comes only before the very first.
  const at = toOffset(after.offset - 1);
  const { epoch, timeMs } = await headerAt(log, at).catch((error: unknown) => {
    throw hasCode(error, "OFFSET_NOT_FOUND") ? outOfReach(log.location, known.offset) : error;
  });
  const hash = await hashAt(log, at, signal);
  const winner = { epoch: after.epoch, host: start.host, offset: after.offset };
  return { logId, checksumSeed, offset: at, hash, epoch, timeMs, winner, contains: start.contains };
}

/** The first epoch after the last one of this writer; undefined when there is none. */
async function epochAfter(
  log: ChangeLog,
  ours: { readonly writer: string; readonly epoch: number },
): Promise<CurrentEpoch | undefined> {
  let next: CurrentEpoch | undefined;
  for await (const one of epochsOf(log)) {
    if (one.epoch <= ours.epoch || one.start?.writer === ours.writer) return next;
    next = one;
  }
  return next;
}

function notFenced(evidence: string): TidemarkError {
  return new TidemarkError("NOT_FENCED", `this host is not a former primary: ${evidence}`, {
    hint: "`tidemark history` tells who is the primary. Promote another host first, or start this one's agent as before.",
  });
}

function outOfReach(location: string, known: Offset): TidemarkError {
  return new TidemarkError(
    "LOG_GAP",
    `${location} does not hold any more where another host took over, after offset ${known}`,
    { hint: "`tidemark rejoin --force` keeps the old databases whole and has the standby built anew." },
  );
}
