import { offset, type Offset } from "../../event/positions.ts";
import type { PackUse } from "../blob-use.ts";
import { parseSegmentName } from "../object-names.ts";
import { PACK_PREFIX } from "../refresh-index.ts";
import type { Survey } from "../survey.ts";
import { type Decision, type Window, windowOf } from "./decide.ts";
import { GRACE_MS } from "./grace.ts";
import type { Inventory, PresentBase } from "./inventory.ts";
import { type PackPlan, wastedBytes } from "./pack-plan.ts";
import type { Remover } from "./remover.ts";

/** Objects, of them packs, and what they take. */
export interface Amount {
  readonly objects: number;
  readonly packs: number;
  readonly bytes: number;
}

export interface JudgedBase {
  readonly base: Pick<PresentBase, "offset" | "timeMs" | "verified"> & { readonly name: string };
  /** Why it stays; none: it goes. */
  readonly reasons: readonly string[];
}

/** What a run of expire did to one repository, or would do. */
export interface ExpireReport {
  readonly confirmed: boolean;
  /** Newest first. */
  readonly bases: readonly JudgedBase[];
  readonly segments: { readonly kept: Amount; readonly expired: Amount; readonly expiredThrough: Offset | undefined };
  /** Every moment of it can be restored. */
  readonly window: { readonly before: Window | undefined; readonly after: Window | undefined };
  /** Removed in this run. */
  readonly freed: Amount;
  /** Marked, to be removed by a run after `notBeforeMs`. */
  readonly later: Amount & { readonly notBeforeMs: number | undefined };
  /** Marked long enough ago, but under a retention lock of the store. */
  readonly locked: Amount & { readonly until: string | undefined };
  /** Packs of which little is needed, written anew. */
  readonly rewritten: { readonly packs: number; readonly bytes: number };
  /** Partly needed packs that stay, and how much in them is not needed. */
  readonly wasted: { readonly packs: number; readonly bytes: number };
  /** Marks that were taken back, because what they named is needed. */
  readonly unmarked: number;
}

export interface Reported {
  readonly inventory: Inventory;
  readonly decision: Decision;
  readonly plan: PackPlan;
  readonly copied: readonly PackUse[];
  readonly remover: Remover;
  readonly confirmed: boolean;
  readonly nowMs: number;
  /** By this run. */
  readonly marked: readonly string[];
  readonly unmarked: ReadonlySet<string>;
}

/** Pure. */
export function reportOf(run: Reported): ExpireReport {
  const { inventory, decision, plan, copied, remover, confirmed, unmarked } = run;
  const { survey, marked, bases, segments } = inventory;
  const expired = decision.expired.segments;
  const visibleBases = bases.filter(({ info }) => !marked.has(info.name));
  const visibleSegments = segments.filter(({ name }) => !marked.has(name));
  return {
    confirmed,
    bases: decision.judged.map(({ base, reasons }) => ({ base: { ...base, name: base.info.name }, reasons })),
    segments: {
      kept: amountOf(
        decision.keptSegments.map(({ name }) => name),
        survey,
      ),
      expired: amountOf(expired, survey),
      expiredThrough: lastOf(expired),
    },
    window: {
      before: windowOf(visibleBases, visibleSegments),
      after: windowOf(decision.keptBases, decision.keptSegments),
    },
    freed: amountOf(remover.removed, survey),
    later: laterOf(run),
    locked: { ...amountOf(remover.locked.keys(), survey), until: remover.lockedUntil },
    rewritten: { packs: copied.length, bytes: sumOf(copied, ({ keptBytes }) => keptBytes) },
    wasted: { packs: plan.wasted.length, bytes: sumOf(plan.wasted, wastedBytes) },
    unmarked: unmarked.size,
  };
}

function laterOf({ inventory, remover, marked, unmarked, nowMs }: Reported): ExpireReport["later"] {
  const { removed, locked } = remover;
  const waits = (name: string): boolean => !removed.has(name) && !locked.has(name) && !unmarked.has(name);
  const waiting = [...inventory.marked, ...marked].filter(waits);
  const isThere = (name: string): boolean => inventory.survey.bytesOf(name) !== undefined;
  const times = inventory.marks
    .filter(({ names }) => [...names].some((name) => waits(name) && isThere(name)))
    .map(({ atMs }) => atMs);
  if (marked.length > 0) times.push(nowMs);
  const amount = amountOf(waiting, inventory.survey);
  return { ...amount, notBeforeMs: amount.objects > 0 ? Math.min(...times) + GRACE_MS : undefined };
}

/** Of those that are there. */
function amountOf(names: Iterable<string>, survey: Survey): Amount {
  const amount = { objects: 0, packs: 0, bytes: 0 };
  for (const name of names) {
    const bytes = survey.bytesOf(name);
    if (bytes === undefined) continue;
    amount.objects += 1;
    amount.packs += name.startsWith(PACK_PREFIX) ? 1 : 0;
    amount.bytes += bytes;
  }
  return amount;
}

function lastOf(segments: readonly string[]): Offset | undefined {
  const lasts = segments.map((name): number => parseSegmentName(name)?.last ?? 0);
  return lasts.length === 0 ? undefined : offset(lasts.reduce((most, last) => Math.max(most, last)));
}

function sumOf<T>(all: readonly T[], of: (one: T) => number): number {
  return all.reduce((sum, one) => sum + of(one), 0);
}
