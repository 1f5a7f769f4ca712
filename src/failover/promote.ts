import fs from "node:fs";
import os from "node:os";

import { CaptureState } from "../capture/capture-state.ts";
import type { Config } from "../config/config.ts";
import { decodeRecord } from "../event/codec.ts";
import type { Epoch, Offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { newestKeyOffset } from "../log/key-offsets.ts";
import { currentEpoch, hashAt, headerAt, readLogIdentity } from "../log/log-reader.ts";
import { type KnownHead, LogWriter } from "../log/log-writer.ts";
import { isByPromotion } from "../log/resume-log.ts";
import type { ReplicaAgent, ReplicaStatus } from "../replica/replica-agent.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { retry } from "../runtime/retry.ts";
import { promotedState } from "./standby-role.ts";

/** Whoever promotes a second standby so soon after the first meant the first, or did not know of it. */
const RECENT_MS = 60_000;

/** How far a standby is: a running replica, or what one left that has halted. */
export interface Standing {
  status(): Pick<ReplicaStatus, "offset" | "atMs" | "verified" | "problem">;
  readonly waitApplied: ReplicaAgent["waitApplied"];
}

export interface Candidate {
  readonly config: Config;
  /** Reads. */
  readonly log: ChangeLog;
  readonly replica: Standing;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Where the primary offers its place, when it does; it is this one's only as long as that is the log's end. */
  readonly offeredAt?: Offset | undefined;
}

/** What stands between a standby and its promotion. */
export interface Examined {
  readonly known: KnownHead;
  /** The epoch that would end. */
  readonly epoch: Epoch;
  /** The last one that the standby has applied. */
  readonly applied: Offset;
  /** What the log holds and the standby would not. */
  readonly lost: Lost;
  /** Why not, without --force. */
  readonly refusal: TidemarkError | undefined;
  /** That epoch is this host's own: a promotion that was not finished. */
  readonly ours: boolean;
}

export interface Lost {
  readonly offsets: number;
  readonly ms: number;
}

/** As is said of a log that nobody can look into any more. */
export const UNKNOWN_LOSS = { offsets: null, ms: null } as const;

/** Waits until the standby has applied what the log holds now, then judges. Changes nothing. @throws LOG_UNREACHABLE and others */
export async function examine(candidate: Candidate, timeoutMs: number): Promise<Examined> {
  const { config, log, replica, clock, signal, offeredAt } = candidate;
  const { logId } = await readLogIdentity(log, signal);
  await requireSameEncryption(config, log);
  const bounds = await log.bounds();
  const current = await currentEpoch(log, bounds);
  const ours = wasPromoted(config) && current.start?.writer === writerOf(config);
  const newest = await headerAt(log, bounds.last);
  await appliedWithin(replica, { offset: bounds.last, timeoutMs, signal });
  const { offset: applied, atMs, verified, problem } = replica.status();
  const offsets = Math.max(0, bounds.last - applied);
  const lost = { offsets, ms: offsets === 0 ? 0 : Math.max(0, newest.timeMs - atMs) };
  const since = clock.now() - current.timeMs;
  const invited = ours || offeredAt !== undefined;
  const host = !invited && current.start && isByPromotion(current.start) ? current.start.host : undefined;
  const refusal =
    host !== undefined && since < RECENT_MS
      ? promotedRecently(host, since)
      : verified
        ? offsets > 0
          ? behind(lost, { applied, problem })
          : undefined
        : unverified(problem);
  const known = { logId, offset: bounds.last, hash: await hashAt(log, bounds.last, signal) };
  return { known, epoch: current.epoch, applied, lost, refusal, ours };
}

/**
 * Ends the epoch that was examined. From here on the former primary is fenced, and another candidate refused.
 * `untilMs`: by the monotonic clock. @throws PROMOTED_ELSEWHERE, TIMEOUT, and what appending throws
 */
export async function takeEpoch(
  { config, log, clock, signal, offeredAt, untilMs }: Omit<Candidate, "replica"> & { readonly untilMs: number },
  { known, epoch, applied, lost }: Examined,
): Promise<{ epoch: Epoch; offset: Offset }> {
  const identity = { writer: writerOf(config), host: os.hostname() };
  const contains = lost.offsets > 0 ? applied : undefined;
  const writer = await LogWriter.open({
    log,
    set: config.set,
    identity,
    known,
    clock,
    signal,
    foreignWriterGraceMs: 0,
    takeover: false,
    promotion: { from: epoch, contains, offeredAt, untilMs },
  });
  return { epoch: writer.epoch, offset: writer.head };
}

/** Whether the log's newest epoch was begun by this standby: promoted, and killed before that was on its disk. */
export async function isOwnEpoch(config: Config, log: ChangeLog, signal: AbortSignal): Promise<boolean> {
  return wasPromoted(config) && (await readLogIdentity(log, signal)).writer === writerOf(config);
}

/** Where the primary offers its place to the standby `id`; undefined when the newest record says no such thing. */
export async function offerTo(id: string, log: ChangeLog): Promise<Offset | undefined> {
  const { last } = await log.bounds();
  const data = await log.get(last);
  const body = data && decodeRecord(data).body;
  return body?.kind === "heartbeat" && body.successor === id ? last : undefined;
}

/** Whether a promotion was ever begun here. */
export function wasPromoted({ standby = "" }: Config): boolean {
  return fs.existsSync(promotedState(standby));
}

/** UUID with which this standby writes once it is promoted; on its disk before the log hears of it. */
export function writerOf({ standby = "", set }: Config): string {
  using state = new CaptureState(promotedState(standby), set);
  return state.writer;
}

/** @throws STANDBY_BEHIND: the log names this host already, so the command is to be given again */
export async function requireApplied(
  replica: Standing,
  { offset, timeoutMs, signal }: { offset: Offset; timeoutMs: number; signal: AbortSignal },
): Promise<void> {
  await appliedWithin(replica, { offset, timeoutMs, signal });
  const { offset: applied, problem } = replica.status();
  if (applied >= offset) return;
  const why = problem === undefined ? "" : ` (${problem})`;
  throw new TidemarkError(
    "STANDBY_BEHIND",
    `this host is the primary from offset ${offset} on, and its standby has applied offset ${applied} only${why}`,
    { hint: "Run `tidemark promote` again: it goes on from here." },
  );
}

/**
 * Servers that elect a leader do not answer for some seconds: a log that is away is asked again for so long.
 * @throws LOG_UNREACHABLE that says what can be done then
 */
export async function patiently<T>(
  work: () => Promise<T>,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<T> {
  const limit = new AbortController();
  const late = new AbortController();
  void sleep(timeoutMs, limit.signal).then(() => late.abort());
  let away = true;
  const attempt = async (): Promise<T> => {
    away = false;
    return work().catch((error: unknown) => {
      away = hasCode(error, "LOG_UNREACHABLE");
      throw error;
    });
  };
  try {
    return await retry(attempt, {
      signal: AbortSignal.any([late.signal, signal]),
      maxDelayMs: 1000,
      useful: () => away,
    });
  } catch (error) {
    throw hasCode(error, "LOG_UNREACHABLE") ? logGone(error) : error;
  } finally {
    limit.abort();
  }
}

async function appliedWithin(
  replica: Standing,
  { offset, timeoutMs, signal }: { offset: Offset; timeoutMs: number; signal: AbortSignal },
): Promise<void> {
  const limit = new AbortController();
  const either = AbortSignal.any([limit.signal, signal]);
  const applied = replica.waitApplied(offset, either).catch(() => undefined);
  await Promise.race([applied, sleep(timeoutMs, either)]);
  limit.abort();
}

/** A log that is encrypted stays so. */
async function requireSameEncryption({ encryption }: Config, log: ChangeLog): Promise<void> {
  if (encryption.recipients.length > 0 || (await newestKeyOffset(log)) === undefined) return;
  throw new TidemarkError("CONFIG", `${log.location} is encrypted, and this standby has no recipients to go on with`, {
    hint: "List the recipients of the primary's configuration as encryption: { recipients: [age1…] } here too, and start the replica again.",
  });
}

function behind(
  { offsets, ms }: Lost,
  { applied, problem }: { applied: Offset; problem: string | undefined },
): TidemarkError {
  const why = problem === undefined ? "" : ` (${problem})`;
  return new TidemarkError(
    "STANDBY_BEHIND",
    `the standby has applied offset ${applied}${why}: ${offsets} events, ${ms} ms of the primary's time, would be lost`,
    { hint: "Wait, or give it longer with --timeout; --force promotes it as it is, without them." },
  );
}

function unverified(problem: string | undefined): TidemarkError {
  return new TidemarkError(
    "STANDBY_UNVERIFIED",
    `the standby's contents are not proved to be what the log says${problem === undefined ? "" : `: ${problem}`}`,
    { hint: "Let the replica repair it, or promote another standby; --force promotes it as it is." },
  );
}

function promotedRecently(host: string, ms: number): TidemarkError {
  return new TidemarkError("PROMOTED_ELSEWHERE", `host ${host} was promoted ${Math.round(ms / 1000)} s ago`, {
    hint: "Send the application there. If this host is to be the primary all the same, use --force.",
  });
}

function logGone(error: TidemarkError): TidemarkError {
  return new TidemarkError(
    "LOG_UNREACHABLE",
    `${error.message}; without the log nothing says how far the primary was, and nothing would keep it from going on`,
    {
      hint:
        "Bring the log back and promote then. If it is gone for good: stop the primary by hand, put an empty server (or directory) in its place, and promote with --new-log, which begins a new log " +
        "behind what the standby has, or with --from-repository, which takes from there what the standby lacks.",
      cause: error,
    },
  );
}
