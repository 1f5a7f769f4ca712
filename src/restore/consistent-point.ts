import { kindOfCode } from "../event/body-fields.ts";
import type { EventKind } from "../event/kinds.ts";
import type { Offset } from "../event/positions.ts";
import { FLAG } from "../event/record-header.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { type EventHead, type EventSummary, type History } from "./history.ts";
import type { RestorePoint } from "./resolve-target.ts";

/** A point at which every path that was dirty had been captured: databases and files go together. */
export interface ConsistentPoint {
  readonly offset: Offset;
  readonly timeMs: number;
}

const OF_TREES: ReadonlySet<EventKind | undefined> = new Set<EventKind>([
  "file.chunk",
  "file.put",
  "file.part",
  "file.remove",
  "dir.put",
  "dir.remove",
  "link.put",
]);
/** Kinds whose records alone leave what is restored as it was. */
const CHANGES_NOTHING: ReadonlySet<EventKind | undefined> = new Set<EventKind>([
  "genesis",
  "epoch",
  "heartbeat",
  "mark",
  "sqlite.part",
  "file.chunk",
  "file.part",
]);

/** Finds the consistent points on the way through a log, from the records' headers. */
export class ConsistentPoints {
  #nearest: ConsistentPoint | undefined;
  #last: ConsistentPoint | undefined;
  #changedSince = false;
  #hasTrees: boolean;

  /** hasTrees: it is known that the set has some. */
  constructor(hasTrees = false) {
    this.#hasTrees = hasTrees;
  }

  /** Every record up to the point, in order. */
  take({ kind: code, flags, offset, timeMs }: EventHead): void {
    const kind = kindOfCode(code);
    this.#last = { offset, timeMs };
    this.#hasTrees ||= OF_TREES.has(kind);
    if ((flags & FLAG.consistent) !== 0) {
      this.#nearest = this.#last;
      this.#changedSince = false;
      // Only capture of trees says so.
      this.#hasTrees = true;
    } else if (!CHANGES_NOTHING.has(kind)) this.#changedSince = true;
  }

  /** Of events of databases, of which the last one alone may be a consistent point. */
  takeSummary({ last: offset, lastTimeMs: timeMs, lastConsistent, databases }: EventSummary): void {
    this.#last = { offset, timeMs };
    if (lastConsistent === undefined) this.#changedSince ||= databases.some(({ commits }) => commits > 0);
    else {
      this.#nearest = this.#last;
      this.#changedSince = false;
      this.#hasTrees = true;
    }
  }

  /** Some records after the point: whether the set has trees that are not in the log yet then. */
  takeAhead({ kind }: EventHead): void {
    this.#hasTrees ||= OF_TREES.has(kindOfCode(kind));
  }

  /** Whether what is restored is that of a consistent point. Without trees there is nothing to be out of step. */
  get isConsistent(): boolean {
    return !this.#hasTrees || (this.#nearest !== undefined && !this.#changedSince);
  }

  /** The newest at or before the point; undefined when there is none. */
  get nearest(): ConsistentPoint | undefined {
    return this.#hasTrees ? this.#nearest : this.#last;
  }
}

/** The point itself when it is consistent, otherwise the nearest one before it. Reads the heads of the events behind that one. @throws OFFSET_NOT_FOUND */
export async function consistentPoint(
  history: History,
  point: RestorePoint,
  signal: AbortSignal,
): Promise<RestorePoint> {
  const points = new ConsistentPoints();
  const after = await history.consistentAfter(point.offset);
  for await (const { head } of history.scan({ after, through: point.offset, signal })) points.take(head);
  if (points.isConsistent) return point;
  const { nearest } = points;
  if (nearest) return { ...point, ...nearest, momentMs: nearest.timeMs };
  throw new TidemarkError(
    "OFFSET_NOT_FOUND",
    `${history.location}: no consistent point is known up to offset ${point.offset}`,
    {
      hint: "The first one comes when the first scan of the trees is done. Name a later point, or leave `--consistent` out.",
    },
  );
}
