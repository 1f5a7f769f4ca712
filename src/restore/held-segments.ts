import { type Offset, offset } from "../event/positions.ts";
import { equalBytes } from "../log/log-reader.ts";
import type { Repository } from "../repository/repository.ts";
import type { SegmentEvent, SegmentHead, SegmentInfo } from "../repository/segment.ts";
import type { TidemarkError } from "../runtime/errors.ts";
import { isAway, isOfOneCopy, unlessOfOneCopy } from "./blob-copies.ts";
import { type Piece, PieceIndex } from "./coverage.ts";
import { type EventRange, requireGoingOn } from "./history.ts";
import { SegmentsAhead } from "./segments-ahead.ts";
import { type BackwardPiece, notFollowing, readBack, SegmentFailure, type Stretch } from "./segments-back.ts";

/** A segment, and which repository has it. */
export interface HeldSegment extends Piece {
  readonly repository: Repository;
  readonly info: SegmentInfo;
}

export interface HeldSegmentsOptions {
  /** Of all repositories; those of one that is preferred come first. */
  readonly segments: readonly HeldSegment[];
  /** An object is damaged or missing, and something else is taken instead. */
  readonly onDamage: (error: TidemarkError) => void;
  readonly signal: AbortSignal;
  /** Whether an event that no segment holds can be had all the same. */
  readonly isElsewhere: (at: Offset) => Promise<boolean>;
}

/** Where a reader is. */
export interface Cursor {
  position: Offset;
  /** Of the record at `position`; undefined: not known. */
  hash: Uint8Array | undefined;
}

/** What a reader comes to: a segment of which the head says enough, or events. */
export type Read = { readonly head: SegmentHead } | { readonly events: readonly SegmentEvent[] };

export interface ReadOptions extends EventRange {
  /** Of a segment that is wanted as a whole: its events need not be fetched. */
  readonly isEnough?: (head: SegmentHead) => boolean;
}

/** Heads that are kept. */
const HEADS_KEPT = 64;

/** The segments of several repositories as one: what is damaged in one is taken from another. */
export class HeldSegments {
  readonly #options: HeldSegmentsOptions;
  readonly #heads = new Map<string, Promise<SegmentHead>>();
  #index: PieceIndex<HeldSegment>;

  constructor(options: HeldSegmentsOptions) {
    this.#options = options;
    this.#index = new PieceIndex(options.segments);
  }

  /** In the order of their first offsets. */
  get pieces(): readonly HeldSegment[] {
    return this.#index.pieces;
  }

  /** Of those that hold the event at `at` the one that goes furthest. */
  at(at: Offset): HeldSegment | undefined {
    return this.#index.at(at);
  }

  /** What is there now. */
  replace(segments: readonly HeldSegment[]): void {
    this.#index = new PieceIndex(segments);
  }

  /** The same few are asked for again and again. */
  head(segment: HeldSegment): Promise<SegmentHead> {
    const { repository, info } = segment;
    const key = `${repository.location} ${info.name}`;
    const head = this.#heads.get(key) ?? repository.segments.head(info, this.#options.signal);
    this.#heads.set(key, head);
    const [oldest] = this.#heads.keys();
    if (this.#heads.size > HEADS_KEPT && oldest !== undefined) this.#heads.delete(oldest);
    return head;
  }

  /** Undefined when it is damaged. */
  soundHead(segment: HeldSegment): Promise<SegmentHead | undefined> {
    return unlessOfOneCopy(() => this.head(segment), this.#options.onDamage);
  }

  /** From the segment that holds an event, or from another one when that is damaged; undefined: none does. */
  async from<T>(at: Offset, use: (segment: HeldSegment) => Promise<T>): Promise<T | undefined> {
    for (;;) {
      const segment = this.#index.at(at);
      if (!segment) return undefined;
      try {
        return await use(segment);
      } catch (error) {
        await this.#requireOther(segment, at, error);
      }
    }
  }

  /** As far as segments go on without a gap; the cursor is then where they end. */
  async *read(cursor: Cursor, options: ReadOptions): AsyncGenerator<Read> {
    const { through, signal } = options;
    await using ahead = new SegmentsAhead({ through, signal });
    if (options.isEnough) ahead.wants = "head";
    for (;;) {
      requireGoingOn(signal);
      const segment = cursor.position < through ? this.#index.at(offset(cursor.position + 1)) : undefined;
      if (!segment) return;
      try {
        yield* this.#segment({ segment, ahead, cursor }, options);
      } catch (error) {
        await this.#requireOther(segment, offset(cursor.position + 1), error);
      }
    }
  }

  async *#segment(
    { segment, ahead, cursor }: { segment: HeldSegment; ahead: SegmentsAhead; cursor: Cursor },
    { through, signal, isEnough }: ReadOptions,
  ): AsyncGenerator<Read> {
    const isWhole = segment.first === cursor.position + 1;
    const { head, events: pieces } = await ahead.take(segment, cursor.position, this.#index);
    if (cursor.hash && isWhole && !equalBytes(head.hashBefore, cursor.hash)) throw notFollowing(segment);
    const isHeadEnough = isWhole && segment.last <= through && isEnough?.(head) === true;
    // The next one is likely to be like it.
    ahead.wants = isHeadEnough ? "head" : "events";
    if (isHeadEnough) {
      cursor.position = segment.last;
      cursor.hash = head.hashAfter;
      yield { head };
      return;
    }
    for await (const events of pieces()) {
      for (const event of events) {
        if (event.head.offset !== cursor.position + 1) throw notFollowing(segment);
        cursor.position = event.head.offset;
      }
      cursor.hash = cursor.position === segment.last ? head.hashAfter : undefined;
      yield { events };
    }
    requireGoingOn(signal);
    if (cursor.position < Math.min(through, segment.last)) throw notFollowing(segment);
  }

  /** Up to here segments go on without a gap. */
  reach({ after, through }: Pick<EventRange, "after" | "through">): Offset {
    return stretchesOf(this.#index, { after, through }).at(-1)?.through ?? after;
  }

  /**
   * Pieces of the segments between two offsets, which reach that far, last first.
   *
   * @throws OnlyForward when something is damaged that can be had from elsewhere, but not in this way
   */
  async *back({ after, through, signal }: EventRange): AsyncGenerator<BackwardPiece, void, void> {
    for (let low = through; low > after;) {
      try {
        for await (const piece of readBack(stretchesOf(this.#index, { after, through: low }), signal)) {
          requireGoingOn(signal);
          yield piece;
          low = offset(Math.max(piece.outline.first - 1, piece.after));
        }
        return;
      } catch (error) {
        if (!(error instanceof SegmentFailure)) throw error;
        await this.#requireOther(error.segment, offset(Math.max(after + 1, error.segment.first)), error.cause);
        if (this.reach({ after, through: low }) < low)
          throw new OnlyForward("a segment is damaged", { cause: error.cause });
      }
    }
  }

  /** Another copy of what comes next takes its place. @throws the error when there is none */
  async #requireOther(segment: HeldSegment, next: Offset, error: unknown): Promise<void> {
    if (!isOfOneCopy(error)) throw error;
    const isGone = (other: HeldSegment): boolean =>
      other === segment || (isAway(error) && other.repository === segment.repository);
    const without = this.#index.without(isGone);
    if (!without.at(next) && !(await this.#options.isElsewhere(next))) throw error;
    this.#options.onDamage(error);
    this.#index = without;
  }
}

/** Events have to be read in their order: some of them are in the log alone. */
export class OnlyForward extends Error {}

/** What is read of which segment, as far as they go on without a gap. */
function stretchesOf(
  index: PieceIndex<HeldSegment>,
  { after, through }: Pick<EventRange, "after" | "through">,
): Stretch[] {
  const stretches: Stretch[] = [];
  for (let position = after; position < through;) {
    const segment = index.at(offset(position + 1));
    if (!segment) break;
    const end = offset(Math.min(segment.last, through));
    stretches.push({ segment, after: position, through: end });
    position = end;
  }
  return stretches;
}
