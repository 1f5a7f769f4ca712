import { equalBytes } from "../log/log-reader.ts";
import type { Offset } from "../event/positions.ts";
import type { OpenSegment, PieceOutline, SegmentHead } from "../repository/segment.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { HeldSegment } from "./held-segments.ts";

/** Pieces that are fetched side by side, at most so many and so many stored bytes of them. */
const PIECES_AHEAD = 4;
const BYTES_AHEAD = 8 * 1024 * 1024;
/** Heads of segments are fetched further ahead. */
const SEGMENTS_AHEAD = 8;

/** What of a segment is read: its events behind `after` and up to `through`. */
export interface Stretch {
  readonly segment: HeldSegment;
  readonly after: Offset;
  readonly through: Offset;
}

/** What a piece says, of which only events behind `after` and up to `through` count: segments may overlap. */
export interface BackwardPiece {
  readonly outline: PieceOutline;
  readonly after: Offset;
  readonly through: Offset;
  /** SHA-256 of the record at `through`, when the head of the segment says it. */
  readonly hashAfter: Uint8Array | undefined;
}

/** Something of a segment cannot be had. */
export class SegmentFailure extends Error {
  readonly segment: HeldSegment;

  constructor(segment: HeldSegment, cause: unknown) {
    super(segment.info.name, { cause });
    this.segment = segment;
  }
}

interface OpenStretch extends Stretch {
  readonly opened: Promise<OpenSegment>;
}

interface Ahead {
  readonly stretch: Stretch;
  readonly head: SegmentHead;
  readonly bytes: number;
  readonly outline: Promise<PieceOutline>;
}

/** The pieces of neighbouring stretches, given in ascending order, last first. @throws SegmentFailure, or what `signal` says */
export async function* readBack(
  stretches: readonly Stretch[],
  signal: AbortSignal,
): AsyncGenerator<BackwardPiece, void, void> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const pieces = piecesBack(stretches, both);
  const running: Ahead[] = [];
  let bytes = 0;
  try {
    for (let isDone = false; ;) {
      while (!isDone && running.length < PIECES_AHEAD && bytes < BYTES_AHEAD) {
        const next = await pieces.next();
        if (next.done) isDone = true;
        else {
          running.push(next.value);
          bytes += next.value.bytes;
        }
      }
      const first = running.shift();
      if (!first) return;
      const { stretch, head } = first;
      const outline = await of(stretch.segment, first.outline);
      bytes -= first.bytes;
      const hashAfter = stretch.through === head.last ? head.hashAfter : undefined;
      yield { outline, after: stretch.after, through: stretch.through, hashAfter };
    }
  } finally {
    stop.abort();
    await Promise.allSettled(running.map(({ outline }) => outline));
    await pieces.return();
  }
}

/** Begins to fetch what it yields. */
async function* piecesBack(stretches: readonly Stretch[], signal: AbortSignal): AsyncGenerator<Ahead, void, void> {
  const ahead: OpenStretch[] = [];
  let at = stretches.length;
  let newer: { readonly segment: HeldSegment; readonly head: SegmentHead } | undefined;
  try {
    for (;;) {
      for (; at > 0 && ahead.length < SEGMENTS_AHEAD; at -= 1) ahead.push(begun(stretches[at - 1] as Stretch, signal));
      const stretch = ahead.shift();
      if (!stretch) return;
      const { segment, after, through } = stretch;
      const open = await of(segment, stretch.opened);
      const { head } = open;
      const meets = newer && newer.segment.first === segment.last + 1;
      if (newer && meets && !equalBytes(newer.head.hashBefore, head.hashAfter))
        throw new SegmentFailure(segment, notFollowing(segment));
      newer = { segment, head };
      for (const [index, { first, last, bytes }] of [...head.pieces.entries()].toReversed()) {
        if (first > through || last <= after) continue;
        const outline = open.outline(index, signal);
        outline.catch(() => undefined);
        yield { stretch, head, bytes, outline };
      }
    }
  } finally {
    await Promise.allSettled(ahead.map(({ opened }) => opened));
  }
}

function begun(stretch: Stretch, signal: AbortSignal): OpenStretch {
  const { repository, info } = stretch.segment;
  const opened = repository.segments.open(info, { signal, wants: "head" });
  opened.catch(() => undefined);
  return { ...stretch, opened };
}

async function of<T>(segment: HeldSegment, read: Promise<T>): Promise<T> {
  try {
    return await read;
  } catch (error) {
    throw new SegmentFailure(segment, error);
  }
}

/** What it says of itself and what is in it differ, or it is of another history. */
export function notFollowing({ repository, info }: HeldSegment): TidemarkError {
  return new TidemarkError(
    "OBJECT_CORRUPT",
    `${repository.location}: ${info.name} does not follow the events before it`,
    { hint: "`tidemark verify` tells what is damaged and what depends on it." },
  );
}
