import type { CaptureAgent } from "../capture/capture-agent.ts";
import { formatDuration } from "../config/units.ts";
import { offset as toOffset, type Offset } from "../event/positions.ts";
import type { ChangeLog, RegisteredReplica } from "../log/change-log.ts";
import { appliedBy, shownStandby } from "../log/watch-standbys.ts";
import type { ReplicaAgent } from "../replica/replica-agent.ts";
import type { Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { askStandbys } from "./ask-standbys.ts";

const DEFAULT_TIMEOUT_MS = 60_000;
/** Of those that are missing so many are named. */
const NAMED = 5;

export interface SyncRequest {
  /** Up to where it is wanted; undefined: everything that was committed before the call. */
  readonly offset: Offset | undefined;
  /** true: this agent's own standby has it too. A number: so many standbys have, wherever they are. */
  readonly applied: boolean | number;
  readonly timeoutMs: number;
}

export interface SyncReport {
  readonly ok: true;
  /** Everything that was committed before the call is in the log up to here. */
  readonly offset: number;
  readonly applied: boolean;
  /** Those that have it, when a number of them was asked for. */
  readonly standbys?: readonly {
    readonly id: string;
    readonly host: string;
    readonly standby: string;
    readonly applied: number;
  }[];
  /** Databases and trees that cannot be captured just now: nobody knows what was committed in them. */
  readonly without?: readonly string[];
}

/** Who can answer. */
export interface SyncSources {
  /** @throws AGENT_NOT_RUNNING, FENCED */
  readonly capture: () => CaptureAgent;
  readonly replica: ReplicaAgent | undefined;
  readonly log: ChangeLog | undefined;
  readonly clock: Clock;
  readonly without: () => { readonly without?: readonly string[] };
}

/** @throws USAGE */
export function syncRequest({ offset, applied, timeoutMs }: Readonly<Record<string, unknown>>): SyncRequest {
  return {
    offset: typeof offset === "number" ? requireOffset(offset) : undefined,
    applied: typeof applied === "number" ? requireCount(applied) : applied === true,
    timeoutMs: typeof timeoutMs === "number" ? timeoutMs : DEFAULT_TIMEOUT_MS,
  };
}

/** @throws TIMEOUT, INTERRUPTED, AGENT_NOT_RUNNING, FENCED */
export async function syncWith(sources: SyncSources, request: SyncRequest, signal: AbortSignal): Promise<SyncReport> {
  const { capture, replica, without } = sources;
  const { applied } = request;
  if (typeof applied === "number") return syncStandbys(sources, { ...request, applied }, signal);
  const offset = request.offset ?? (await interruptible(capture().sync(), signal));
  const except = without();
  // A capture alone cannot know; whoever asks goes on to the replica with the offset.
  if (!applied || !replica) return { ok: true, offset, applied: false, ...except };
  await replica.waitApplied(offset, signal);
  return { ok: true, offset, applied: true, ...except };
}

async function syncStandbys(
  { capture, log, clock, without }: SyncSources,
  { offset, applied: count, timeoutMs }: SyncRequest & { readonly applied: number },
  signal: AbortSignal,
): Promise<SyncReport> {
  const agent = capture();
  if (!log) throw logAway();
  const thoseWith = (known: readonly RegisteredReplica[], through: Offset): readonly RegisteredReplica[] =>
    known.filter((one) => appliedBy(one) >= through);
  const asked = await askStandbys({ agent, log }, (known, at) => thoseWith(known, offset ?? at).length >= count, {
    clock,
    timeoutMs,
    signal,
  });
  const through = offset ?? asked.offset;
  const having = thoseWith(asked.standbys, through);
  if (having.length >= count) {
    const standbys = having.map((one) => ({
      id: one.id,
      host: one.host,
      standby: one.standby,
      applied: appliedBy(one),
    }));
    return { ok: true, offset: through, applied: true, standbys, ...without() };
  }
  if (signal.aborted) throw interrupted();
  throw tooFew(asked.standbys, { having, count, through, nowMs: clock.now() });
}

interface Shortage {
  readonly having: readonly RegisteredReplica[];
  readonly count: number;
  readonly through: Offset;
  readonly nowMs: number;
}

function tooFew(known: readonly RegisteredReplica[], { having, count, through, nowMs }: Shortage): TidemarkError {
  const missing = known.filter((one) => !having.includes(one)).toSorted((one, other) => other.atMs - one.atMs);
  const named = missing.slice(0, NAMED).map((one) => {
    const ago = formatDuration(Math.max(0, nowMs - one.atMs));
    return `${shownStandby(one)} had applied offset ${appliedBy(one)} when it was heard of ${ago} ago`;
  });
  const others = missing.length > NAMED ? [`${missing.length - NAMED} more`] : [];
  const unknown = known.length < count ? [`only ${known.length} are known to the log`] : [];
  const why = [...unknown, ...named, ...others].join("; ");
  return new TidemarkError("TIMEOUT", `${having.length} of ${count} standbys have applied offset ${through}: ${why}`, {
    hint: "It is in the log. Look with `tidemark status` on the hosts of the standbys that are missing, or give them longer with --timeout.",
  });
}

/** The work goes on, but nobody waits for it any more. */
async function interruptible<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const ended = Promise.withResolvers<never>();
  const onAbort = (): void => ended.reject(interrupted());
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work, ended.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
    ended.promise.catch(() => undefined);
  }
}

function interrupted(): TidemarkError {
  return new TidemarkError("INTERRUPTED", "the agent stops", {
    hint: "Start it again; what it captured is in the log.",
  });
}

function logAway(): TidemarkError {
  return new TidemarkError("AGENT_NOT_RUNNING", "the agent has no log just now", {
    hint: "`tidemark status` tells what it waits for.",
  });
}

function requireOffset(value: number): Offset {
  if (Number.isSafeInteger(value) && value >= 0) return toOffset(value);
  throw new TidemarkError("USAGE", `${value} is no offset`, {
    hint: "Offsets are whole numbers; `tidemark log` lists them.",
  });
}

/** @throws USAGE */
export function requireCount(value: number): number {
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new TidemarkError("USAGE", `${value} is no number of standbys`, { hint: "Ask for 1 or more." });
}
