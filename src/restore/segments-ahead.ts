import { type Offset, offset } from "../event/positions.ts";
import type { OpenSegment, ReadSegmentOptions, SegmentEvent, SegmentHead } from "../repository/segment.ts";
import type { PieceIndex } from "./coverage.ts";
import type { HeldSegment } from "./held-segments.ts";

/** At most so many, and so many stored bytes of them. */
const SEGMENTS_AHEAD = 8;
const BYTES_AHEAD = 8 * 1024 * 1024;

interface Ahead {
  readonly segment: HeldSegment;
  readonly opened: Promise<OpenSegment>;
  /** Once it is the next one: its first events are on their way. */
  events: Promise<AsyncGenerator<readonly SegmentEvent[]>> | undefined;
}

export interface AheadOptions {
  readonly through: Offset;
  readonly signal: AbortSignal;
}

/** A segment whose turn has come. */
export interface TakenSegment {
  readonly head: SegmentHead;
  /** Its events behind those that were asked for with it. */
  readonly events: () => AsyncGenerator<readonly SegmentEvent[]>;
}

/** Fetches the segments that come next while one is read: no round trip is waited for, and bytes bound what is held. */
export class SegmentsAhead implements AsyncDisposable {
  /** What of a segment is wanted most likely. */
  wants: "head" | "events" = "events";
  readonly #options: AheadOptions;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #queue: Ahead[] = [];

  constructor(options: AheadOptions) {
    this.#options = options;
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal]);
  }

  /** `index`: from which those behind it are taken. @throws what fetching it throws */
  async take(segment: HeldSegment, after: Offset, index: PieceIndex<HeldSegment>): Promise<TakenSegment> {
    // Another one than was thought comes when something is damaged.
    const isExpected = this.#queue[0]?.segment === segment;
    const next = (isExpected && this.#queue.shift()) || this.#open(segment);
    if (!isExpected) this.#queue = [];
    this.#fill(segment, index);
    const opened = await next.opened;
    const begun = next.events && (await next.events);
    const [following] = this.#queue;
    if (following && this.wants === "events") following.events ??= this.#begin(following, segment.last);
    return { head: opened.head, events: () => begun ?? opened.read(this.#range(after)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#queue.map(({ opened }) => opened));
  }

  #fill(current: HeldSegment, index: PieceIndex<HeldSegment>): void {
    let last = this.#queue.at(-1)?.segment.last ?? current.last;
    let bytes = this.#queue.reduce((sum, { segment }) => sum + segment.info.bytes, 0);
    while (this.#queue.length < SEGMENTS_AHEAD && bytes < BYTES_AHEAD && last < this.#options.through) {
      const segment = index.at(offset(last + 1));
      if (!segment) return;
      this.#queue.push(this.#open(segment));
      bytes += segment.info.bytes;
      last = segment.last;
    }
  }

  #open(segment: HeldSegment): Ahead {
    const { wants } = this;
    const opened = segment.repository.segments.open(segment.info, { signal: this.#signal, wants });
    opened.catch(() => undefined);
    return { segment, opened, events: undefined };
  }

  #begin({ opened }: Ahead, after: Offset): Promise<AsyncGenerator<readonly SegmentEvent[]>> {
    const events = opened.then((segment) => segment.read(this.#range(after)));
    events.catch(() => undefined);
    return events;
  }

  #range(after: Offset): ReadSegmentOptions {
    return { signal: this.#signal, after, through: this.#options.through };
  }
}
