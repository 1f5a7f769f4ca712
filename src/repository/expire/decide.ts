import type { KeepConfig } from "../../config/config.ts";
import type { Offset } from "../../event/positions.ts";
import { judgeBases, type Judged } from "../retention.ts";
import type { SegmentInfo } from "../segment.ts";
import type { Inventory, PresentBase } from "./inventory.ts";

export interface Decision {
  /** Newest first. */
  readonly judged: readonly Judged<PresentBase>[];
  readonly keptBases: readonly PresentBase[];
  readonly keptSegments: readonly SegmentInfo[];
  /** Names of what goes, in the order in which it goes: nothing is removed before what refers to it. */
  readonly expired: {
    readonly bases: readonly string[];
    readonly notes: readonly string[];
    readonly segments: readonly string[];
  };
  /** Names of bases, notes and segments that stay. */
  readonly kept: ReadonlySet<string>;
}

/** What stays and what goes of bases and segments, marked or not: rules may have changed since something was marked. Pure. */
export function decide(
  { bases, segments, orphans }: Pick<Inventory, "bases" | "segments" | "orphans">,
  rules: KeepConfig,
): Decision {
  const { judged, eventsAfter } = judgeBases(bases, rules);
  const keptBases = judged.filter(({ reasons }) => reasons.length > 0).map(({ base }) => base);
  const gone = judged.filter(({ reasons }) => reasons.length === 0).map(({ base }) => base);
  // The newest tells the archive where to go on, and the log which hash it must begin with.
  const newest = segments.reduce((furthest, { last }) => Math.max(furthest, last), 0);
  const stays = ({ last }: SegmentInfo): boolean => last > eventsAfter || last === newest;
  const keptSegments = segments.filter(stays);
  return {
    judged,
    keptBases,
    keptSegments,
    expired: {
      bases: gone.map(({ info }) => info.name),
      notes: [...gone.flatMap(({ notes }) => notes), ...orphans],
      segments: segments.filter((segment) => !stays(segment)).map(({ name }) => name),
    },
    kept: new Set([
      ...keptBases.flatMap(({ info, notes }) => [info.name, ...notes]),
      ...keptSegments.map(({ name }) => name),
    ]),
  };
}

/** The moments that can be restored one by one. */
export interface Window {
  /** The oldest, and its time, as far as a base tells it. */
  readonly from: { readonly offset: Offset; readonly timeMs: number | undefined };
  readonly through: Offset;
}

/** From the oldest base from which segments lead to the newest event, or from the first event. Undefined: there is none. Pure. */
export function windowOf(
  bases: readonly Pick<PresentBase, "offset" | "timeMs">[],
  segments: readonly Pick<SegmentInfo, "first" | "last">[],
): Window | undefined {
  const furthest = segments.toSorted((one, other) => other.last - one.last);
  const through = furthest[0]?.last;
  if (through === undefined) return undefined;
  let first = furthest[0]?.first ?? through;
  for (const segment of furthest) if (segment.last >= first - 1 && segment.first < first) first = segment.first;
  if (first === 1) return { from: { offset: first, timeMs: undefined }, through };
  const oldest = bases
    .filter(({ offset }) => offset >= first - 1)
    .toSorted((one, other) => one.offset - other.offset)[0];
  return oldest && { from: { offset: oldest.offset, timeMs: oldest.timeMs }, through };
}
