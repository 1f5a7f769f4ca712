import { decodeRecordHeader, recordHash } from "../event/codec.ts";
import type { EpochStart } from "../event/kinds.ts";
import type { Epoch, Offset } from "../event/positions.ts";
import type { Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { ChangeLog, LogBounds } from "./change-log.ts";
import { foreignError, promotedError, purgedError, recreatedError, regressedError } from "./log-errors.ts";
import { type CurrentEpoch, currentEpoch, equalBytes, readGenesis, recordAt } from "./log-reader.ts";

export interface WriterIdentity {
  /** UUID kept in the agent's state directory. */
  readonly writer: string;
  readonly host: string;
}

/** What the state directory remembers of the log, to notice that it was re-created or went backwards. */
export interface KnownHead {
  readonly logId: string;
  readonly offset: Offset;
  /** SHA-256 of the record at `offset`. */
  readonly hash: Uint8Array;
  /** In which this host wrote it; undefined: an older version noted it. */
  readonly epoch?: Epoch | undefined;
}

export interface ResumeOptions {
  /** A candidate displaces whoever writes. */
  readonly promotion?: object | undefined;
  readonly log: ChangeLog;
  readonly set: string;
  readonly identity: WriterIdentity;
  readonly known: KnownHead | undefined;
  readonly clock: Clock;
  readonly foreignWriterGraceMs: number;
  readonly takeover: boolean;
}

export interface ResumedLog {
  readonly logId: string;
  readonly checksumSeed: bigint;
  readonly epoch: Epoch;
  /** Whose epoch it is. "nobody" may be a writer that went silent. */
  readonly owner: "us" | "nobody";
  readonly head: { readonly offset: Offset; readonly timeMs: number; readonly hash: Uint8Array };
}

/** The log's newest record, and of which epoch it is. @throws LOG_GAP */
export async function headOf(log: ChangeLog): Promise<ResumedLog["head"] & { readonly epoch: Epoch }> {
  const { last } = await log.bounds();
  const newest = await log.get(last);
  if (!newest) throw purgedError(log.location, last, last);
  const { timeMs, epoch } = decodeRecordHeader(newest);
  return { offset: last, timeMs, epoch, hash: recordHash(newest) };
}

/** Decides whether and how a writer may go on in a log that holds something. */
export async function resumeLog(options: ResumeOptions): Promise<ResumedLog> {
  const { log, known } = options;
  const bounds = await log.bounds();
  if (known && bounds.last === 0)
    throw recreatedError(log.location, `it is empty, but offset ${known.offset} was written before`);
  const newest = await log.get(bounds.last);
  if (!newest) throw purgedError(log.location, bounds.last, bounds.last);
  const genesis = await readGenesis(log);
  if (genesis.set !== options.set) {
    throw foreignError(log.location, `it is the log of the set "${genesis.set}", not of "${options.set}"`);
  }
  const header = decodeRecordHeader(newest);
  const current = await currentEpoch(log, bounds);
  const owner = (await isOurs(options, current)) ? "us" : "nobody";
  const displaces = options.takeover || options.promotion !== undefined;
  const sameLog = known === undefined || known.logId === genesis.logId;
  // First: in a log that was begun anew by another host there is nothing of what this one wrote last.
  if (owner !== "us" && !displaces && sameLog) assertNotPromoted(options, current);
  if (known) await assertKnown(log, { known, logId: genesis.logId, bounds });
  if (owner !== "us" && !displaces)
    assertSilent(options, { start: current.start, timeMs: header.timeMs, last: bounds.last });
  const head = { offset: bounds.last, timeMs: header.timeMs, hash: recordHash(newest) };
  return {
    logId: genesis.logId,
    checksumSeed: genesis.checksumSeed,
    epoch: current.epoch,
    owner,
    head,
  };
}

async function assertKnown(
  log: ChangeLog,
  found: { known: KnownHead; logId: string; bounds: LogBounds },
): Promise<void> {
  const { known, logId, bounds } = found;
  if (known.logId !== logId)
    throw recreatedError(log.location, `its identity is ${logId}, this host wrote ${known.logId}`);
  const { epoch } = decodeRecordHeader(await recordAt(log, bounds.last));
  if (known.epoch !== undefined && epoch < known.epoch)
    throw recreatedError(log.location, `its newest epoch is ${epoch}, this host wrote in epoch ${known.epoch}`);
  if (bounds.last < known.offset) throw regressedError(log.location, known.offset, bounds.last);
  const record = known.offset === 0 ? undefined : await log.get(known.offset);
  // A record that was trimmed since cannot be compared; the identity and the head must do.
  if (record && !equalBytes(recordHash(record), known.hash)) {
    throw recreatedError(
      log.location,
      `offset ${known.offset} holds another record than the one this host wrote there`,
    );
  }
}

/** An epoch has one writer: when its first record was trimmed, having written any record of it proves whose it is. */
async function isOurs(options: ResumeOptions, current: CurrentEpoch): Promise<boolean> {
  // A candidate knows the log by having read it.
  if (current.start || options.promotion) return current.start?.writer === options.identity.writer;
  const { known } = options;
  const record = known && known.offset > 0 ? await options.log.get(known.offset) : undefined;
  if (known && record && !equalBytes(recordHash(record), known.hash)) return false;
  const epoch = record ? decodeRecordHeader(record).epoch : known?.epoch;
  return epoch === current.epoch;
}

/** A host that was promoted stays the primary, however long it is silent: the one before it must not come back by itself. */
function assertNotPromoted({ log, known }: ResumeOptions, { epoch, start }: CurrentEpoch): void {
  if (!start || !isByPromotion(start)) return;
  const { host, reason } = start;
  throw promotedError(log.location, { epoch, host, reason, wasOurs: known !== undefined });
}

/** Whether a standby became the writer, and not whoever found the one before it silent. */
export function isByPromotion({ reason }: EpochStart): boolean {
  return reason === "promotion" || reason === "switchover" || reason === "new-log";
}

function assertSilent(
  options: ResumeOptions,
  newest: { start: EpochStart | undefined; timeMs: number; last: Offset },
): void {
  const ageMs = options.clock.now() - newest.timeMs;
  // Genesis alone: its writer died before it began.
  if (newest.last === 1 || ageMs >= options.foreignWriterGraceMs) return;
  const { writer, host } = newest.start ?? { writer: "unknown", host: "unknown" };
  const age = `${Math.max(0, Math.round(ageMs / 1000))} s ago`;
  throw new TidemarkError(
    "LOG_FOREIGN_WRITER",
    `${options.log.location}: writer ${writer} on host ${host} wrote offset ${newest.last} ${age}; it seems to be alive`,
    {
      hint:
        `Stop the capture agent on host ${host} first. If it is gone for good, start again with --takeover, or wait until its ` +
        `last record is ${Math.round(options.foreignWriterGraceMs / 1000)} s old.`,
    },
  );
}
