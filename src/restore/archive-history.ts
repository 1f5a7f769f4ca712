import type { LogEvent } from "../event/kinds.ts";
import { type Offset, offset } from "../event/positions.ts";
import { equalBytes } from "../log/log-reader.ts";
import type { BaseInfo, BaseManifest } from "../repository/base.ts";
import type { Repository } from "../repository/repository.ts";
import type { SegmentEvent, SegmentHead, SegmentInfo } from "../repository/segment.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { isDamage, unlessDamaged } from "./blob-copies.ts";
import { type Piece, PieceIndex, type RestorableRange, restorableRanges } from "./coverage.ts";
import {
  type EventRange,
  type History,
  type HistoryBounds,
  type ListedMark,
  requireGoingOn,
  type ScannedEvent,
} from "./history.ts";
import type { LogHistory } from "./log-history.ts";
import type { EventsToRead } from "./plan-base.ts";

/** A segment, and which repository has it. */
export interface HeldSegment extends Piece {
  readonly repository: Repository;
  readonly info: SegmentInfo;
}

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

/** Heads that are read at a time, and kept. */
const HEADS_AT_ONCE = 16;
const HEADS_KEPT = 64;
/** A consistent point is looked for in so many segments before another point. */
const LOOK_BACK_SEGMENTS = 50;

/** Where a reader is. */
interface Cursor {
  position: Offset;
  /** Of the record at `position`; undefined: not known. */
  hash: Uint8Array | undefined;
}

/** The events of repositories, and of the log's tail behind them. */
export class ArchiveHistory implements History {
  readonly location: string;
  readonly #options: ArchiveHistoryOptions;
  readonly #heads = new Map<string, Promise<SegmentHead>>();
  #index: PieceIndex<HeldSegment>;

  constructor(options: ArchiveHistoryOptions) {
    this.location = options.location;
    this.#options = options;
    this.#index = new PieceIndex(options.segments);
  }

  /** Only the contents that come with the log's records are checked by them. */
  get nameKeys(): readonly Uint8Array[] {
    return this.#options.log?.nameKeys ?? [];
  }

  /** Last offset that the repositories know of. */
  get archivedThrough(): Offset {
    const { segments, bases } = this.#options;
    return offset([...segments.map(({ last }) => last), ...bases.map((base) => base.offset)].reduce(greater, 0));
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
    return restorableRanges({ segments: this.#index.pieces, bases, log: await this.#logPiece() });
  }

  async seed(): Promise<bigint> {
    const { bases, log } = this.#options;
    for (const base of bases) {
      const manifest = await this.#unlessDamaged(() => this.manifest(base));
      if (manifest) return manifest.checksumSeed;
    }
    const first = this.#index.at(offset(1));
    const seed = first && (await this.#unlessDamaged(() => this.#head(first)))?.checksumSeed;
    if (seed !== undefined) return seed;
    if (log) return log.seed();
    throw new TidemarkError("BASE_NOT_FOUND", `${this.location}: it holds no base, and no first event`, {
      hint: "Nothing can be restored from it before its first base is made: `tidemark base create` makes one.",
    });
  }

  manifest({ repository, info }: HeldBase): Promise<BaseManifest> {
    return repository.bases.read(info, this.#options.signal);
  }

  async timeAt(at: Offset): Promise<number> {
    const base = this.#options.bases.find((one) => one.offset === at);
    const manifest = base && (await this.#unlessDamaged(() => this.manifest(base)));
    if (manifest) return manifest.timeMs;
    const fromSegment = await this.#fromSegment(at, (segment) => this.#timeIn(segment, at));
    if (fromSegment !== undefined) return fromSegment;
    const log = await this.#logPiece();
    if (log && this.#options.log && isIn(log, at)) return this.#options.log.timeAt(at);
    throw gone(this.location, at, undefined);
  }

  async locate(timeMs: number): Promise<Offset> {
    const { bases, log } = this.#options;
    const lone = bases
      .filter((base) => !this.#index.at(base.offset))
      .map((base) => ({ first: base.offset, last: base.offset }));
    const logPiece = await this.#logPiece();
    const pieces: Piece[] = [...this.#index.pieces, ...lone, ...(logPiece ? [logPiece] : [])];
    const index = new PieceIndex(pieces);
    const found = await lastWhere(index.pieces, async ({ first }) => (await this.timeAt(first)) <= timeMs);
    const piece = found && index.at(found.first);
    if (!piece) return offset((await this.bounds()).first - 1);
    if (piece === logPiece && log) return log.locate(timeMs);
    if (piece.first === piece.last) return piece.first;
    return (await this.#fromSegment(piece.first, (segment) => this.#locateIn(segment, timeMs))) ?? piece.first;
  }

  async consistentAfter(at: Offset): Promise<Offset> {
    const log = await this.#logPiece();
    let next = at;
    if (!this.#index.at(at) && log && isIn(log, at)) {
      next = this.archivedThrough;
      if (next < log.first - 1) return offset(log.first - 1);
    }
    for (let looked = 0; looked < LOOK_BACK_SEGMENTS && next > 0; looked += 1) {
      const segment = this.#index.at(next);
      const head = segment && (await this.#unlessDamaged(() => this.#head(segment)));
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
    const segments = this.#index.pieces;
    for (let at = 0; at < segments.length; at += HEADS_AT_ONCE) {
      requireGoingOn(signal);
      const some = segments.slice(at, at + HEADS_AT_ONCE);
      const heads = await Promise.all(some.map((one) => this.#unlessDamaged(() => readHead(one, signal))));
      for (const mark of heads.flatMap((head) => head?.marks ?? [])) marks.set(mark.offset, mark);
    }
    return [...marks.values()].toSorted((one, other) => one.offset - other.offset);
  }

  /** What reading events takes; nothing is fetched. */
  reading({ after, through }: Pick<EventRange, "after" | "through">): EventsToRead {
    let position = after;
    const total = { segments: 0, segmentBytes: 0 };
    for (;;) {
      const segment = position < through ? this.#index.at(offset(position + 1)) : undefined;
      if (!segment) break;
      total.segments += 1;
      total.segmentBytes += segment.info.bytes;
      position = segment.last;
    }
    return { ...total, logEvents: Math.max(0, through - position) };
  }

  async *scan({ after, through, signal }: EventRange): AsyncGenerator<ScannedEvent> {
    const cursor: Cursor = { position: after, hash: undefined };
    for (let more = true; more;) {
      for await (const events of this.#archived(cursor, { after, through, signal })) {
        for (const { head, event } of events) yield { head, event };
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
    const cursor: Cursor = { position: range.after, hash: undefined };
    for (let more = true; more;) {
      for await (const events of this.#archived(cursor, range)) yield events.map(({ event }) => event());
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

  /** What the log lost while it was read is in the repositories by now. @throws the error when it is not */
  async #requireArchived({ position }: Cursor, error: unknown): Promise<true> {
    if (!hasCode(error, "LOG_GAP", "OFFSET_NOT_FOUND")) throw error;
    const index = new PieceIndex(await this.#options.relist());
    if (!index.at(offset(position + 1))) throw error;
    this.#index = index;
    return true;
  }

  /** As far as segments go on without a gap. */
  async *#archived(cursor: Cursor, { through, signal }: EventRange): AsyncGenerator<readonly SegmentEvent[]> {
    for (;;) {
      requireGoingOn(signal);
      const segment = cursor.position < through ? this.#index.at(offset(cursor.position + 1)) : undefined;
      if (!segment) return;
      try {
        yield* this.#segment(segment, cursor, { after: cursor.position, through, signal });
      } catch (error) {
        await this.#requireOther(segment, cursor, error);
      }
    }
  }

  async *#segment(
    segment: HeldSegment,
    cursor: Cursor,
    { after, through, signal }: EventRange,
  ): AsyncGenerator<readonly SegmentEvent[]> {
    const { repository, info } = segment;
    const head = await this.#head(segment);
    if (cursor.hash && segment.first === after + 1 && !equalBytes(head.hashBefore, cursor.hash)) {
      throw notFollowing(repository.location, info);
    }
    for await (const events of repository.segments.read(info, { signal, after, through })) {
      for (const event of events) {
        if (event.head.offset !== cursor.position + 1) throw notFollowing(repository.location, info);
        cursor.position = event.head.offset;
      }
      cursor.hash = cursor.position === segment.last ? head.hashAfter : undefined;
      yield events;
    }
    requireGoingOn(signal);
    if (cursor.position < Math.min(through, segment.last)) throw notFollowing(repository.location, info);
  }

  /** Another copy of what comes next takes its place. @throws the error when there is none */
  async #requireOther(segment: HeldSegment, { position }: Cursor, error: unknown): Promise<void> {
    if (!isDamage(error)) throw error;
    const without = this.#index.without(segment);
    const log = await this.#logPiece();
    const next = offset(position + 1);
    if (!without.at(next) && !(log && isIn(log, next))) throw error;
    this.#options.onDamage(error);
    this.#index = without;
  }

  /** @throws OFFSET_NOT_FOUND when the log does not hold what comes next */
  async #tail({ position }: Cursor): Promise<LogHistory> {
    const log = await this.#logPiece();
    const next = offset(position + 1);
    if (this.#options.log && log && log.first <= next) return this.#options.log;
    throw gone(this.location, next, this.#index.pieces.find(({ first }) => first > next)?.first);
  }

  async #logPiece(): Promise<Piece | undefined> {
    const bounds = await this.#options.log?.bounds();
    return bounds && bounds.first <= bounds.last ? bounds : undefined;
  }

  async #timeIn(segment: HeldSegment, at: Offset): Promise<number> {
    const head = await this.#head(segment);
    if (at === head.first) return head.firstTimeMs;
    if (at === head.last) return head.lastTimeMs;
    const range = { signal: this.#options.signal, after: offset(at - 1), through: at };
    for await (const events of segment.repository.segments.read(segment.info, range)) {
      const found = events.find((event) => event.head.offset === at);
      if (found) return found.head.timeMs;
    }
    throw notFollowing(segment.repository.location, segment.info);
  }

  /** Last event up to that time; the first one is. */
  async #locateIn(segment: HeldSegment, timeMs: number): Promise<Offset> {
    const head = await this.#head(segment);
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

  /** From the segment that holds an event, or from another one when that is damaged; undefined: none does. */
  async #fromSegment<T>(at: Offset, use: (segment: HeldSegment) => Promise<T>): Promise<T | undefined> {
    for (;;) {
      const segment = this.#index.at(at);
      if (!segment) return undefined;
      try {
        return await use(segment);
      } catch (error) {
        await this.#requireOther(segment, { position: offset(at - 1), hash: undefined }, error);
      }
    }
  }

  #unlessDamaged<T>(read: () => Promise<T>): Promise<T | undefined> {
    return unlessDamaged(read, this.#options.onDamage);
  }

  /** The same few are asked for again and again. */
  #head(segment: HeldSegment): Promise<SegmentHead> {
    const key = `${segment.repository.location} ${segment.info.name}`;
    const head = this.#heads.get(key) ?? readHead(segment, this.#options.signal);
    this.#heads.set(key, head);
    const [oldest] = this.#heads.keys();
    if (this.#heads.size > HEADS_KEPT && oldest !== undefined) this.#heads.delete(oldest);
    return head;
  }
}

function readHead({ repository, info }: HeldSegment, signal: AbortSignal): Promise<SegmentHead> {
  return repository.segments.head(info, signal);
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

/** What it says of itself and what is in it differ, or it is of another history. */
function notFollowing(location: string, { name }: SegmentInfo): TidemarkError {
  return new TidemarkError("OBJECT_CORRUPT", `${location}: ${name} does not follow the events before it`, {
    hint: "`tidemark verify` tells what is damaged and what depends on it.",
  });
}

function gone(location: string, at: Offset, next: Offset | undefined): TidemarkError {
  const goesOn = next === undefined ? "it ends before" : `events go on at ${next}`;
  return new TidemarkError("OFFSET_NOT_FOUND", `${location}: offset ${at} is not there: ${goesOn}`, {
    hint: "`tidemark restore --list` shows what can be restored.",
  });
}
