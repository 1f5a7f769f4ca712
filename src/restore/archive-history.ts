import type { LogEvent } from "../event/kinds.ts";
import { type Offset, offset } from "../event/positions.ts";
import type { BaseInfo, BaseManifest } from "../repository/base.ts";
import type { Repository } from "../repository/repository.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { isAway, unlessOfOneCopy } from "./blob-copies.ts";
import { type Piece, PieceIndex, type RestorableRange, restorableRanges } from "./coverage.ts";
import {
  type EventRange,
  type History,
  type HistoryBounds,
  type ListedMark,
  requireGoingOn,
  type ScannedEvent,
  type Surveyed,
  type SurveyRange,
} from "./history.ts";
import { type Cursor, type HeldSegment, HeldSegments, OnlyForward, type ReadOptions } from "./held-segments.ts";
import type { LogHistory } from "./log-history.ts";
import type { EventsBack, EventsToRead } from "./plan-base.ts";
import { type BackwardPiece, notFollowing } from "./segments-back.ts";

export interface HeldBase {
  readonly offset: Offset;
  readonly repository: Repository;
  readonly info: BaseInfo;
}

export interface ArchiveHistoryOptions {
  /** For messages. */
  readonly location: string;
  /** Of all repositories; those of one that is preferred come first. */
  readonly segments: readonly HeldSegment[];
  /** Lists the segments again. */
  readonly relist: () => Promise<readonly HeldSegment[]>;
  /** Newest first. */
  readonly bases: readonly HeldBase[];
  /** Goes on where the segments end. Undefined: there is none, or it cannot be reached. */
  readonly log: LogHistory | undefined;
  /** An object is damaged or missing, and something else is taken instead. */
  readonly onDamage: (error: TidemarkError) => void;
  readonly signal: AbortSignal;
}

/** Heads that are read at a time. */
const HEADS_AT_ONCE = 16;
/** A consistent point is looked for in so many segments before another point. */
const LOOK_BACK_SEGMENTS = 50;

/** The events of repositories, and of the log's tail behind them. */
export class ArchiveHistory implements History {
  readonly location: string;
  readonly #options: ArchiveHistoryOptions;
  readonly #segments: HeldSegments;
  readonly #back: EventsBack = {
    reach: (range) => this.#segments.reach(range),
    pieces: (range) => this.#piecesBack(range),
  };
  #onlyForward = false;
  readonly #away = new Map<Repository, TidemarkError>();
  /** Last event of all segments that were ever listed. */
  #listedThrough: number;
  /** Where the log began when it was looked at last. */
  #logFirst = 0;

  constructor(options: ArchiveHistoryOptions) {
    this.location = options.location;
    this.#options = options;
    this.#listedThrough = lastOf(options.segments);
    this.#segments = new HeldSegments({
      ...options,
      isElsewhere: async (at) => {
        const log = await this.#logPiece();
        return log !== undefined && isIn(log, at);
      },
    });
  }

  /** Only the contents that come with the log's records are checked by them. */
  get nameKeys(): readonly Uint8Array[] {
    return this.#options.log?.nameKeys ?? [];
  }

  /** Last offset that the repositories know of. */
  get archivedThrough(): Offset {
    return offset(this.#options.bases.map((base) => base.offset).reduce(greater, this.#listedThrough));
  }

  async bounds(): Promise<HistoryBounds> {
    const log = await this.#logPiece();
    const { segments, bases } = this.#options;
    const firsts = [...segments.map(({ first }) => first), ...bases.map((base) => base.offset)];
    if (log) firsts.push(log.first);
    const last = Math.max(this.archivedThrough, log?.last ?? 0);
    return { first: offset(firsts.reduce(lesser, last + 1)), last: offset(last) };
  }

  async ranges(): Promise<readonly RestorableRange[]> {
    const bases = this.#options.bases.map((base) => base.offset);
    return restorableRanges({ segments: this.#segments.pieces, bases, log: await this.#logPiece() });
  }

  async seed(): Promise<bigint> {
    const { bases, log } = this.#options;
    for (const base of bases) {
      const manifest = await this.#unlessOfOneCopy(() => this.manifest(base));
      if (manifest) return manifest.checksumSeed;
    }
    const first = this.#segments.at(offset(1));
    const seed = first && (await this.#segments.soundHead(first))?.checksumSeed;
    if (seed !== undefined) return seed;
    if (log) return log.seed();
    const [away] = this.#away.values();
    throw (
      away ??
      new TidemarkError("BASE_NOT_FOUND", `${this.location}: it holds no base, and no first event`, {
        hint: "Nothing can be restored from it before its first base is made: `tidemark base create` makes one.",
      })
    );
  }

  /** Of a repository that went away nothing more is asked for. */
  async manifest({ repository, info }: HeldBase): Promise<BaseManifest> {
    const away = this.#away.get(repository);
    if (away) throw away;
    try {
      return await repository.bases.read(info, this.#options.signal);
    } catch (error) {
      if (isAway(error)) this.#away.set(repository, error);
      throw error;
    }
  }

  async timeAt(at: Offset): Promise<number> {
    const base = this.#options.bases.find((one) => one.offset === at);
    const manifest = base && (await this.#unlessOfOneCopy(() => this.manifest(base)));
    if (manifest) return manifest.timeMs;
    const fromSegment = await this.#segments.from(at, (segment) => this.#timeIn(segment, at));
    if (fromSegment !== undefined) return fromSegment;
    const log = await this.#logPiece();
    if (log && this.#options.log && isIn(log, at)) return this.#options.log.timeAt(at);
    throw gone(this.location, at, undefined);
  }

  async locate(timeMs: number): Promise<Offset> {
    const { bases, log } = this.#options;
    const lone = bases
      .filter((base) => !this.#segments.at(base.offset))
      .map((base) => ({ first: base.offset, last: base.offset }));
    const logPiece = await this.#logPiece();
    const pieces: Piece[] = [...this.#segments.pieces, ...lone, ...(logPiece ? [logPiece] : [])];
    const index = new PieceIndex(pieces);
    const found = await lastWhere(index.pieces, async ({ first }) => (await this.timeAt(first)) <= timeMs);
    const piece = found && index.at(found.first);
    if (!piece) return offset((await this.bounds()).first - 1);
    if (piece === logPiece && log) return log.locate(timeMs);
    if (piece.first === piece.last) return piece.first;
    return (await this.#segments.from(piece.first, (segment) => this.#locateIn(segment, timeMs))) ?? piece.first;
  }

  async consistentAfter(at: Offset): Promise<Offset> {
    const log = await this.#logPiece();
    let next = at;
    if (!this.#segments.at(at) && log && isIn(log, at)) {
      next = this.archivedThrough;
      if (next < log.first - 1) return offset(log.first - 1);
    }
    for (let looked = 0; looked < LOOK_BACK_SEGMENTS && next > 0; looked += 1) {
      const segment = this.#segments.at(next);
      const head = segment && (await this.#segments.soundHead(segment));
      if (!head) break;
      if (head.lastConsistent !== undefined && head.lastConsistent <= at) return offset(head.lastConsistent - 1);
      next = offset(head.first - 1);
    }
    return next;
  }

  /** From the heads of segments: their events are not fetched. */
  async marks(signal: AbortSignal): Promise<readonly ListedMark[]> {
    const marks = new Map<Offset, ListedMark>();
    for (const mark of (await this.#options.log?.marks(signal)) ?? []) marks.set(mark.offset, mark);
    const segments = this.#segments.pieces;
    for (let at = 0; at < segments.length; at += HEADS_AT_ONCE) {
      requireGoingOn(signal);
      const some = segments.slice(at, at + HEADS_AT_ONCE);
      const heads = await Promise.all(some.map((one) => this.#segments.soundHead(one)));
      for (const mark of heads.flatMap((head) => head?.marks ?? [])) marks.set(mark.offset, mark);
    }
    return [...marks.values()].toSorted((one, other) => one.offset - other.offset);
  }

  /** Undefined once something was damaged that is not in another segment, but in the log. */
  get back(): EventsBack | undefined {
    return this.#onlyForward ? undefined : this.#back;
  }

  async *#piecesBack(range: EventRange): AsyncGenerator<BackwardPiece, void, void> {
    try {
      yield* this.#segments.back(range);
    } catch (error) {
      if (!(error instanceof OnlyForward)) throw error;
      this.#onlyForward = true;
      throw error.cause;
    }
  }

  /** What reading events takes; nothing is fetched. */
  reading({ after, through }: Pick<EventRange, "after" | "through">): EventsToRead {
    let position = after;
    const total = { segments: 0, segmentBytes: 0 };
    for (;;) {
      const segment = position < through ? this.#segments.at(offset(position + 1)) : undefined;
      if (!segment) break;
      total.segments += 1;
      total.segmentBytes += segment.info.bytes;
      position = segment.last;
    }
    return { ...total, logEvents: Math.max(0, through - position) };
  }

  async *scan(range: EventRange): AsyncGenerator<ScannedEvent> {
    for await (const step of this.#read(range)) if ("event" in step) yield step;
  }

  survey(range: SurveyRange): AsyncGenerator<Surveyed> {
    return this.#read(range);
  }

  async *#read(range: ReadOptions): AsyncGenerator<Surveyed> {
    const { through, signal } = range;
    const cursor: Cursor = { position: range.after, hash: undefined };
    for (let more = true; more;) {
      for await (const read of this.#segments.read(cursor, range)) {
        if ("head" in read) yield { summary: read.head };
        else for (const { head, event } of read.events) yield { head, event };
      }
      if (cursor.position >= through) return;
      try {
        for await (const scanned of (await this.#tail(cursor)).scan({ after: cursor.position, through, signal })) {
          yield scanned;
          cursor.position = scanned.head.offset;
        }
        return;
      } catch (error) {
        more = await this.#requireArchived(cursor, error);
      }
    }
  }

  async *events(range: Parameters<History["events"]>[0]): AsyncGenerator<readonly LogEvent[]> {
    const cursor: Cursor = { position: range.after, hash: range.previousHash };
    for (let more = true; more;) {
      for await (const read of this.#segments.read(cursor, range)) {
        if ("events" in read) yield read.events.map(({ event }) => event());
      }
      if (cursor.position >= range.through) return;
      const previousHash = cursor.hash ? { previousHash: cursor.hash } : {};
      try {
        const tail = await this.#tail(cursor);
        for await (const events of tail.events({ ...range, after: cursor.position, ...previousHash })) {
          yield events;
          cursor.position = events.at(-1)?.offset ?? cursor.position;
          cursor.hash = undefined;
        }
        return;
      } catch (error) {
        more = await this.#requireArchived(cursor, error);
      }
    }
  }

  /** What the log lost while it was read is in the repositories by now. @throws OFFSET_NOT_FOUND when it is not */
  async #requireArchived({ position }: Cursor, error: unknown): Promise<true> {
    if (!hasCode(error, "LOG_GAP", "OFFSET_NOT_FOUND")) throw error;
    const next = offset(position + 1);
    if (new PieceIndex(await this.#relist()).at(next)) return true;
    throw hasCode(error, "LOG_GAP") ? gone(this.location, next, (await this.#logPiece())?.first) : error;
  }

  /** Segments that came since the last list. */
  async #relist(): Promise<readonly HeldSegment[]> {
    const listed = await this.#options.relist();
    this.#listedThrough = greater(this.#listedThrough, lastOf(listed));
    this.#segments.replace(listed);
    return listed;
  }

  /** @throws OFFSET_NOT_FOUND when the log does not hold what comes next */
  async #tail({ position }: Cursor): Promise<LogHistory> {
    const log = await this.#logPiece();
    const next = offset(position + 1);
    if (this.#options.log && log && log.first <= next) return this.#options.log;
    throw gone(this.location, next, this.#segments.pieces.find(({ first }) => first > next)?.first ?? log?.first);
  }

  async #logPiece(): Promise<Piece | undefined> {
    const bounds = await this.#options.log?.bounds();
    if (!bounds || bounds.first > bounds.last) return undefined;
    // It was trimmed since the segments were listed: what went is in others.
    const isTrimmed = bounds.first > this.#logFirst && bounds.first > this.archivedThrough + 1;
    this.#logFirst = bounds.first;
    if (isTrimmed) await this.#relist();
    return bounds;
  }

  async #timeIn(segment: HeldSegment, at: Offset): Promise<number> {
    const head = await this.#segments.head(segment);
    if (at === head.first) return head.firstTimeMs;
    if (at === head.last) return head.lastTimeMs;
    const range = { signal: this.#options.signal, after: offset(at - 1), through: at };
    for await (const events of segment.repository.segments.read(segment.info, range)) {
      const found = events.find((event) => event.head.offset === at);
      if (found) return found.head.timeMs;
    }
    throw notFollowing(segment);
  }

  /** Last event up to that time; the first one is. */
  async #locateIn(segment: HeldSegment, timeMs: number): Promise<Offset> {
    const head = await this.#segments.head(segment);
    if (head.lastTimeMs <= timeMs) return head.last;
    let found = head.first;
    for await (const events of segment.repository.segments.read(segment.info, { signal: this.#options.signal })) {
      for (const event of events) {
        if (event.head.timeMs > timeMs) return found;
        found = event.head.offset;
      }
    }
    return found;
  }

  #unlessOfOneCopy<T>(read: () => Promise<T>): Promise<T | undefined> {
    return unlessOfOneCopy(read, this.#options.onDamage);
  }
}

function isIn({ first, last }: Piece, at: Offset): boolean {
  return first <= at && at <= last;
}

/** Last piece for which it holds; it holds for those up to some piece. */
async function lastWhere<P>(pieces: readonly P[], holds: (piece: P) => Promise<boolean>): Promise<P | undefined> {
  let low = 0;
  let high = pieces.length;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (await holds(pieces[middle] as P)) low = middle + 1;
    else high = middle;
  }
  return pieces[low - 1];
}

const lesser = (one: number, other: number): number => Math.min(one, other);
const greater = (one: number, other: number): number => Math.max(one, other);

function lastOf(segments: readonly Piece[]): number {
  return segments.reduce((last, segment) => greater(last, segment.last), 0);
}

function gone(location: string, at: Offset, next: Offset | undefined): TidemarkError {
  const goesOn = next === undefined ? "it ends before" : `events go on at ${next}`;
  return new TidemarkError("OFFSET_NOT_FOUND", `${location}: offset ${at} is not there: ${goesOn}`, {
    hint: "`tidemark restore --list` shows what can be restored.",
  });
}
