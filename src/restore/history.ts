import type { RecordHeader } from "../event/codec.ts";
import type { LogEvent } from "../event/kinds.ts";
import { type Offset, offset } from "../event/positions.ts";
import type { SegmentHead } from "../repository/segment.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { RestorableRange } from "./coverage.ts";

/** First and last event that there are, though some between them may be gone; `first` is `last + 1` when there is none. */
export interface HistoryBounds {
  readonly first: Offset;
  readonly last: Offset;
}

export interface EventRange {
  readonly after: Offset;
  readonly through: Offset;
  readonly signal: AbortSignal;
}

/** What is known of an event without its body. */
export type EventHead = Pick<RecordHeader, "kind" | "flags" | "offset" | "timeMs" | "storedBytes">;

export interface ScannedEvent {
  readonly head: EventHead;
  /** The whole event. @throws RECORD_INVALID, RECORD_VERSION */
  readonly event: () => LogEvent;
}

/** The head of a segment, as far as a plan can be made from it. */
export type EventSummary = Pick<
  SegmentHead,
  "first" | "last" | "lastTimeMs" | "databases" | "trees" | "lastConsistent"
>;

/** What stands for several events, or one of them. */
export type Surveyed = { readonly summary: EventSummary } | ScannedEvent;

export interface SurveyRange extends EventRange {
  /** Of events that are all wanted: none of them need be read. */
  readonly isEnough: (summary: EventSummary) => boolean;
}

/** A named offset. */
export interface ListedMark {
  readonly name: string;
  readonly offset: Offset;
  readonly timeMs: number;
}

/** The events of a set as whoever looks back reads them: those of a log, of a repository, or of both joined. */
export interface History {
  /** For messages. */
  readonly location: string;
  /** With which contents are named, as far as they are known by now: see tree/content-id.ts. */
  readonly nameKeys: readonly Uint8Array[];
  /** The same at each call of one restore, whatever is appended meanwhile, is not promised. */
  bounds(): Promise<HistoryBounds>;
  /** Offsets each of which can be restored, ascending; between two ranges events are gone. None: nothing can be. */
  ranges(): Promise<readonly RestorableRange[]>;
  /** Secret seed of the rolling checksum. @throws LOG_EMPTY */
  seed(): Promise<bigint>;
  /** @throws OFFSET_NOT_FOUND */
  timeAt(at: Offset): Promise<number>;
  /** Offset of the last event whose time is at or before `timeMs`; `first - 1` when all are later. */
  locate(timeMs: number): Promise<Offset>;
  /** The newest consistent point up to `at`, if one is known, comes after this offset, and the events behind it are there. */
  consistentAfter(at: Offset): Promise<Offset>;
  /** Oldest first. */
  marks(signal: AbortSignal): Promise<readonly ListedMark[]>;
  /** Events with their heads only, for finding things; what is applied is verified on its own. @throws LOG_REGRESSED, INTERRUPTED */
  scan(range: EventRange): AsyncGenerator<ScannedEvent>;
  /** The same, but summaries of events where there are some that say enough. */
  survey(range: SurveyRange): AsyncGenerator<Surveyed>;
  /**
   * Events in batches, proved to be what was written and to follow each other. The memory of a batch's page images is
   * freed when the next one is asked for.
   *
   * `previousHash`: SHA-256 of the record at `after`, which the first one must name.
   *
   * `sealed`: those that are encrypted and whose key this host cannot open come as such.
   *
   * @throws LOG_REGRESSED, LOG_CORRUPT, INTERRUPTED; with `follow` it waits for more until `signal` aborts
   */
  events(
    range: EventRange & { readonly follow?: boolean; readonly sealed?: boolean; readonly previousHash?: Uint8Array },
  ): AsyncGenerator<readonly LogEvent[]>;
}

/** Before the first event there is nothing at all, unless a base is there. */
export const beforeFirst = (bounds: HistoryBounds): Offset => offset(bounds.first - 1);

/** @throws INTERRUPTED */
export function requireGoingOn(signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new TidemarkError("INTERRUPTED", "the restore was interrupted; nothing was handed over", {
    hint: "Run it again to restore.",
  });
}

export function endedEarly(location: string, position: Offset, through: Offset): TidemarkError {
  return new TidemarkError(
    "LOG_REGRESSED",
    `${location}: it ended at offset ${position} while ${through} was there before`,
    {
      hint: "The log was replaced or cut while it was read. Look at its server or disk, then restore again.",
    },
  );
}
