import type { KeepConfig } from "../config/config.ts";
import { formatDuration, formatSize } from "../config/units.ts";
import type { Amount, ExpireReport } from "../repository/expire/report.ts";
import { textTable } from "./text-table.ts";

export interface AppliedRules {
  readonly keep: KeepConfig;
  /** None were given. */
  readonly isDefault: boolean;
}

/** One of `repositories` of `expire --json`. */
export function expireJson(report: ExpireReport, { keep, isDefault }: AppliedRules): object {
  const { bases, window, later, locked, segments, confirmed: _, ...rest } = report;
  return {
    rules: { ...keep, default: isDefault },
    bases: bases.map(({ base: { name, offset, timeMs, verified }, reasons }) => {
      return { name, offset, at: isoOf(timeMs), verified, keep: reasons.length > 0, reasons };
    }),
    segments: { ...segments, expiredThrough: segments.expiredThrough ?? null },
    window: { before: windowJson(window.before), after: windowJson(window.after) },
    ...rest,
    later: { objects: later.objects, packs: later.packs, bytes: later.bytes, notBefore: isoOf(later.notBeforeMs) },
    locked: { ...locked, until: locked.until ?? null },
  };
}

type Window = ExpireReport["window"]["before"];

function windowJson(window: Window): object | null {
  return window
    ? { from: { offset: window.from.offset, at: isoOf(window.from.timeMs) }, through: window.through }
    : null;
}

/** For people. */
export function* expireText(location: string, report: ExpireReport, rules: AppliedRules): Generator<string> {
  const { bases, segments, window, confirmed, freed, later, locked, rewritten, wasted, unmarked } = report;
  yield `${location}: keeps ${rulesText(rules)}`;
  const rows = bases.map(({ base, reasons }) => [
    String(base.offset),
    isoOf(base.timeMs) ?? "",
    base.verified ? "verified" : "not verified",
    reasons.length > 0 ? reasons.join(", ") : "goes",
  ]);
  yield* textTable([["offset", "time", "", "kept as"], ...rows], new Set([0]));
  if (segments.expiredThrough !== undefined) {
    const all = segments.kept.objects + segments.expired.objects;
    yield `segments: ${segments.expired.objects} of ${all} go, up to offset ${segments.expiredThrough}`;
  }
  yield `every moment can be restored ${windowText(window.before)}; afterwards ${windowText(window.after)}`;
  const would = confirmed ? "" : "would be ";
  if (unmarked > 0) yield `${would}kept again: ${unmarked} objects that were marked`;
  if (rewritten.packs > 0)
    yield `${would}written anew: ${formatSize(rewritten.bytes)} of ${rewritten.packs} packs of which most is not needed`;
  yield `${would}removed: ${amountText(freed)}`;
  if (later.objects > 0) yield `${would}removed by a run after ${isoOf(later.notBeforeMs)}: ${amountText(later)}`;
  if (locked.objects > 0) yield `locked by the store until ${locked.until} at the latest: ${amountText(locked)}`;
  if (wasted.packs > 0) yield `not needed in ${wasted.packs} packs that stay: ${formatSize(wasted.bytes)}`;
  if (!confirmed) yield "nothing was changed; --confirm does it";
}

function rulesText({ keep: { withinMs, ...counts }, isDefault }: AppliedRules): string {
  const rules = [
    ...(withinMs === undefined ? [] : [`within ${formatDuration(withinMs)}`]),
    ...Object.entries(counts).map(([rule, count]) => `${rule} ${count}`),
  ];
  return `${rules.join(", ") || "two verified bases"}${isDefault ? " (the default: no keep: is configured)" : ""}`;
}

function windowText(window: Window): string {
  if (!window) return "nowhere";
  const { from, through } = window;
  return `from offset ${from.offset}${from.timeMs === undefined ? "" : ` (${isoOf(from.timeMs)})`} to ${through}`;
}

function amountText({ objects, packs, bytes }: Amount): string {
  return `${objects} objects, ${packs} of them packs, ${formatSize(bytes)}`;
}

function isoOf(timeMs: number | undefined): string | null {
  return timeMs === undefined ? null : new Date(timeMs).toISOString();
}
