import type { KeepConfig } from "../config/config.ts";
import { BEFORE_FIRST, type Offset } from "../event/positions.ts";

/** What is kept when nothing else is said. */
export const DEFAULT_KEEP: KeepConfig = {
  withinMs: 86_400_000,
  hourly: 168,
  daily: 30,
  weekly: 12,
  monthly: 12,
  yearly: 7,
};

/** So many verified bases outlive every rule. */
export const MINIMUM_VERIFIED = 2;

export interface RetainedBase {
  readonly id: string;
  readonly offset: Offset;
  readonly timeMs: number;
  /** Read back whole from this repository after it was made. */
  readonly verified: boolean;
}

export interface Judged<B extends RetainedBase> {
  readonly base: B;
  /** Why it stays, in words for people: `daily 2026-11-21`. None: it expires. */
  readonly reasons: readonly string[];
}

export interface Retention<B extends RetainedBase> {
  /** Newest first. */
  readonly judged: readonly Judged<B>[];
  /** Every retained offset after this one can be restored: the events after it stay. 0 = all of them. */
  readonly eventsAfter: Offset;
}

const CALENDAR = [
  { rule: "hourly", period: (time: Date) => time.toISOString().slice(0, 13) },
  { rule: "daily", period: (time: Date) => time.toISOString().slice(0, 10) },
  { rule: "weekly", period: (time: Date) => `week of ${mondayOf(time).toISOString().slice(0, 10)}` },
  { rule: "monthly", period: (time: Date) => time.toISOString().slice(0, 7) },
  { rule: "yearly", period: (time: Date) => time.toISOString().slice(0, 4) },
] as const;

/**
 * Decides what stays, by restic's rules (each keeps the newest of a period, periods without a base do not count) and two of
 * ours: the newest verified bases stay whatever the rules say, and so does the base that the oldest moment of `within` is
 * restored from. Pure: the same bases and rules give the same answer whenever they are asked.
 */
export function judgeBases<B extends RetainedBase>(bases: readonly B[], rules: KeepConfig): Retention<B> {
  const newestFirst = bases.toSorted((one, other) => other.offset - one.offset || (one.id < other.id ? -1 : 1));
  const reasons = new Map<B, string[]>(newestFirst.map((base) => [base, []]));
  const keep = (base: B | undefined, reason: string): void => void (base && reasons.get(base)?.push(reason));
  keep(newestFirst[0], "newest");
  const verified = newestFirst.filter((base) => base.verified).slice(0, MINIMUM_VERIFIED);
  for (const base of verified) keep(base, "minimum of verified bases");
  for (const base of newestFirst.slice(0, rules.last ?? 0)) keep(base, "last");
  const window = windowOf(newestFirst, rules.withinMs);
  for (const base of window.inside) keep(base, "within");
  keep(window.start, "start of within");
  for (const { rule, period } of CALENDAR) {
    for (const [name, base] of newestOfPeriods(newestFirst, period, rules[rule] ?? 0)) keep(base, `${rule} ${name}`);
  }
  const judged = newestFirst.map((base) => ({ base, reasons: reasons.get(base) ?? [] }));
  return { judged, eventsAfter: eventsAfter(verified, window, rules) };
}

function newestOfPeriods<B extends RetainedBase>(
  newestFirst: readonly B[],
  periodOf: (time: Date) => string,
  count: number,
): Map<string, B> {
  const newest = new Map<string, B>();
  for (const base of newestFirst) {
    const period = periodOf(new Date(base.timeMs));
    if (newest.has(period)) continue;
    if (newest.size === count) break;
    newest.set(period, base);
  }
  return newest;
}

interface Window<B> {
  readonly inside: readonly B[];
  /** The newest one that is older: what the first moment of the window is restored from. */
  readonly start: B | undefined;
}

function windowOf<B extends RetainedBase>(newestFirst: readonly B[], withinMs: number | undefined): Window<B> {
  const [newest] = newestFirst;
  if (!newest || withinMs === undefined) return { inside: [], start: undefined };
  const since = newest.timeMs - withinMs;
  const inside = newestFirst.filter((base) => base.timeMs >= since);
  // What a restore begins with should have been read back once; else any will do.
  const older = newestFirst.filter((base) => base.timeMs < since);
  return { inside, start: older.find((base) => base.verified) ?? older[0] };
}

/**
 * With `within` everything from its start on; without, what the newest verified bases need to reach the present. As long as
 * there is no such base, nothing can be spared.
 */
function eventsAfter<B extends RetainedBase>(
  verified: readonly B[],
  window: Window<B>,
  { withinMs }: KeepConfig,
): Offset {
  const oldestVerified = verified.length < MINIMUM_VERIFIED ? BEFORE_FIRST : (verified.at(-1)?.offset ?? BEFORE_FIRST);
  if (withinMs === undefined) return oldestVerified;
  const start = window.start?.offset ?? BEFORE_FIRST;
  return start < oldestVerified ? start : oldestVerified;
}

function mondayOf(time: Date): Date {
  const monday = new Date(time);
  monday.setUTCDate(time.getUTCDate() - ((time.getUTCDay() + 6) % 7));
  return monday;
}
