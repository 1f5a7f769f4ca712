import type { RecordHeader } from "../event/codec.ts";
import type { LogEvent } from "../event/kinds.ts";
import type { PageList } from "../event/page-list.ts";
import type { Epoch, Offset } from "../event/positions.ts";

/** A segment by its name. */
export interface SegmentInfo {
  /** `segments/<first>-<last>-<uuid>`. */
  readonly name: string;
  readonly first: Offset;
  readonly last: Offset;
  /** As stored. */
  readonly bytes: number;
}

/** What a segment says of one database. */
export interface SegmentDatabase {
  readonly name: string;
  /** Of its last commit. */
  readonly offset: Offset;
  readonly timeMs: number;
  readonly pageSize: number;
  readonly sizePages: number;
  /** Rolling checksum after it. */
  readonly checksum: bigint;
  readonly commits: number;
  /** Largest size of the database after any commit in the segment. */
  readonly largestPages: number;
  /** Offset of the last full copy in the segment. */
  readonly copy: Offset | undefined;
  /** Whether a commit of it has parts, or parts of it are not closed by the end: some may be in an earlier segment. */
  readonly parts: boolean;
}

export interface SegmentMark {
  readonly name: string;
  readonly offset: Offset;
  readonly timeMs: number;
}

/** The beginning of a segment: what is in it, without its events. */
export interface SegmentHead {
  readonly first: Offset;
  readonly last: Offset;
  readonly firstTimeMs: number;
  readonly lastTimeMs: number;
  readonly logId: string;
  readonly firstEpoch: Epoch;
  readonly lastEpoch: Epoch;
  /** SHA-256 of the record at first − 1: equals `hashAfter` of the segment before. Zeros at offset 1. */
  readonly hashBefore: Uint8Array;
  /** SHA-256 of the record at `last`. */
  readonly hashAfter: Uint8Array;
  /** Those with commits or parts in it. A database that has only open parts has offset 0. */
  readonly databases: readonly SegmentDatabase[];
  /** Names of the trees that its events touch. */
  readonly trees: readonly string[];
  readonly marks: readonly SegmentMark[];
  /** Names of all contents that its events name. Undefined: its writer did not say, they must be read for it. */
  readonly contents: readonly Uint8Array[] | undefined;
  /** Last event that is flagged consistent. */
  readonly lastConsistent: Offset | undefined;
  /** Seed of the rolling checksum, in the segment that has the genesis. */
  readonly checksumSeed: bigint | undefined;
  readonly pieces: readonly SegmentPiece[];
}

/** Events that are compressed as one. */
export interface SegmentPiece {
  readonly first: Offset;
  readonly last: Offset;
  /** Sealed. */
  readonly bytes: number;
  readonly rawBytes: number;
}

/** What a segment keeps of a record's header. Hash and checksum are of the record, which cannot be made anew. */
export type SegmentEventHead = Pick<RecordHeader, "kind" | "flags" | "epoch" | "offset" | "timeMs" | "storedBytes">;

export interface SegmentEvent {
  readonly head: SegmentEventHead;
  /**
   * Content of `file.chunk` (`data` is empty) and of `file.put` (without `data`) is not in it: it is a blob under the name
   * that the event gives. Page images are views that are valid until the next piece is asked for.
   *
   * @throws OBJECT_CORRUPT, RECORD_VERSION
   */
  event(): LogEvent;
}

/** A record to be archived: as the log stores it, and what it says. */
export interface ArchivedRecord {
  readonly stored: { readonly data: Uint8Array };
  readonly event: LogEvent;
}

/** What an archive needs of a record. Content of files may be left out of the event. */
export interface KeptRecord {
  readonly header: RecordHeader;
  /** SHA-256 of the record. */
  readonly hash: Uint8Array;
  readonly event: LogEvent;
}

/** Records with neither gap nor repetition. Contents that they name are durable in the repository. */
export interface SegmentRun {
  readonly logId: string;
  readonly records: readonly (ArchivedRecord | KeptRecord)[];
}

/** One whose beginning was fetched. */
export interface OpenSegment {
  readonly head: SegmentHead;
  /** One piece at a time, in order; the first is on its way when this returns. @throws OBJECT_MISSING, OBJECT_CORRUPT, REPOSITORY_VERSION */
  read(options: ReadSegmentOptions): AsyncGenerator<readonly SegmentEvent[], void, void>;
  /** What one of its pieces says of databases. All of the piece is proved. @throws OBJECT_MISSING, OBJECT_CORRUPT, REPOSITORY_VERSION */
  outline(piece: number, signal: AbortSignal): Promise<PieceOutline>;
}

/** Of a part or a commit everything but its page images. */
export interface OutlinedEvent extends PageList {
  readonly offset: Offset;
  /** Where its first page image begins in the piece; the others follow. */
  readonly pagesAt: number;
}

/** To be disposed of when its bytes are not needed any more. */
export interface PieceOutline extends Disposable {
  readonly first: Offset;
  readonly last: Offset;
  /** Parts and commits, in order. */
  readonly events: readonly OutlinedEvent[];
  /** The piece from its beginning up to this byte, or further. @throws OBJECT_CORRUPT */
  raw(throughByte: number): Promise<Uint8Array>;
}

export interface ReadSegmentOptions {
  readonly signal: AbortSignal;
  /** Only events after this one, and up to that one: other pieces are not fetched. */
  readonly after?: Offset;
  readonly through?: Offset;
}

export interface SegmentStore {
  /** By first offset, then by last. `after`: only those that begin after this offset. They may overlap. Those that are marked for deletion are left out. */
  list(signal: AbortSignal, after?: Offset): AsyncGenerator<SegmentInfo, void, void>;

  /** Head of the one that goes furthest; undefined when there is none. */
  newest(signal: AbortSignal): Promise<SegmentHead | undefined>;

  /** @throws OBJECT_MISSING, OBJECT_CORRUPT, REPOSITORY_VERSION */
  head(segment: SegmentInfo, signal: AbortSignal): Promise<SegmentHead>;

  /** `wants`: most likely only its head, or events, of which some come with it. @throws OBJECT_MISSING, OBJECT_CORRUPT, REPOSITORY_VERSION */
  open(
    segment: SegmentInfo,
    options: { readonly signal: AbortSignal; readonly wants: "head" | "events" },
  ): Promise<OpenSegment>;

  /** Opens and reads it. */
  read(segment: SegmentInfo, options: ReadSegmentOptions): AsyncGenerator<readonly SegmentEvent[], void, void>;

  /** Durable when it resolves; a long run becomes several segments, which are written in their order. */
  write(run: SegmentRun, signal: AbortSignal): Promise<readonly SegmentInfo[]>;
}
