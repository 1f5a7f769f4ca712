import { type Offset, offset } from "../event/positions.ts";

/** Events that lie in one place, first and last. */
export interface Piece {
  readonly first: Offset;
  readonly last: Offset;
}

/** Offsets each of which can be restored, from the first to the last. */
export interface RestorableRange extends Piece {}

export interface Coverage<P extends Piece> {
  /** Of a repository, in any order; they may overlap. */
  readonly segments: readonly P[];
  /** Offsets of bases. */
  readonly bases: readonly Offset[];
  /** What the log holds; undefined: there is none, or it holds nothing. */
  readonly log: Piece | undefined;
}

/**
 * Which offsets can be restored: those of a base, and those to which events lead without a gap from a base or from the
 * log's first event. A log that lost its beginning may hold copies from which more can be made: it counts from its first
 * event on.
 */
export function restorableRanges<P extends Piece>({ segments, bases, log }: Coverage<P>): RestorableRange[] {
  const runs = joined([...segments, ...(log ? [log] : [])]);
  const ranges: RestorableRange[] = runs.flatMap((run) => rangeOf(run, bases, log) ?? []);
  const isIn = (at: Offset): boolean => ranges.some(({ first, last }) => first <= at && at <= last);
  for (const at of bases) if (!isIn(at)) ranges.push({ first: at, last: at });
  return ranges.toSorted((one, other) => one.first - other.first);
}

/** Those that follow each other, or overlap, as one. */
function joined(pieces: readonly Piece[]): Piece[] {
  const runs: { first: Offset; last: Offset }[] = [];
  for (const { first, last } of pieces.toSorted((one, other) => one.first - other.first)) {
    const run = runs.at(-1);
    if (!run || first > run.last + 1) runs.push({ first, last });
    else if (last > run.last) run.last = last;
  }
  return runs;
}

function rangeOf(run: Piece, bases: readonly Offset[], log: Piece | undefined): RestorableRange | undefined {
  const starts = bases.filter((at) => at >= run.first - 1 && at <= run.last);
  if (run.first === 1) starts.push(offset(1));
  if (log && log.first >= run.first && log.first <= run.last) starts.push(log.first);
  if (starts.length === 0) return undefined;
  return { first: offset(Math.max(1, Math.min(...starts))), last: run.last };
}

/** Finds the piece that holds an event. */
export class PieceIndex<P extends Piece> {
  /** By first offset, and of those up to each the one that goes furthest. */
  readonly #sorted: readonly P[];
  readonly #furthest: readonly P[];

  constructor(pieces: readonly P[]) {
    this.#sorted = pieces.toSorted((one, other) => one.first - other.first);
    let best: P | undefined;
    this.#furthest = this.#sorted.map((piece) => (best = best && best.last >= piece.last ? best : piece));
  }

  /** In the order of their first offsets. */
  get pieces(): readonly P[] {
    return this.#sorted;
  }

  /** Of those that hold the event at `at` the one that goes furthest. */
  at(at: Offset): P | undefined {
    const found = this.#furthest[this.#startedBy((piece) => piece.first <= at) - 1];
    return found && found.last >= at ? found : undefined;
  }

  without(isGone: (piece: P) => boolean): PieceIndex<P> {
    return new PieceIndex(this.#sorted.filter((piece) => !isGone(piece)));
  }

  /** How many of them hold; it holds for those up to some piece. */
  #startedBy(holds: (piece: P) => boolean): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (holds(this.#sorted[middle] as P)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
