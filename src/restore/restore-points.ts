import type { Offset } from "../event/positions.ts";
import type { RepositoryArchive } from "./archive.ts";
import type { History } from "./history.ts";
import { rfc3339 } from "./rfc3339.ts";

interface Point {
  readonly offset: Offset;
  readonly at: string;
}

/** Every moment from `first` to `last` can be restored; when they are the same, just that one. */
export interface ListedRange {
  readonly first: Point;
  readonly last: Point;
}

/** What `restore --list` tells. */
export interface ListedPoints {
  readonly ok: true;
  readonly ranges: readonly ListedRange[];
  /** Offsets of bases: what lies shortly behind one is restored soonest. */
  readonly bases: readonly Offset[];
}

export async function restorePoints(history: History, archive: RepositoryArchive | undefined): Promise<ListedPoints> {
  const ranges: ListedRange[] = [];
  const point = async (offset: Offset): Promise<Point> => ({ offset, at: rfc3339(await history.timeAt(offset)) });
  for (const { first, last } of await history.ranges())
    ranges.push({ first: await point(first), last: await point(last) });
  return { ok: true, ranges, bases: archive?.baseOffsets ?? [] };
}
