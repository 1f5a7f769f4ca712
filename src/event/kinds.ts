import type { Epoch, Offset } from "./positions.ts";
import type { ByteString, TreePath } from "./tree-path.ts";

/** One page image. `data.length` is the page size of the database. */
export interface PageImage {
  /** 1-based page number. */
  readonly pageNumber: number;
  readonly data: Uint8Array;
}

/** Where in the primary's WAL a commit event ends: lets a restarted capture prove that nothing passed it unseen. */
export interface WalPosition {
  readonly salt1: number;
  readonly salt2: number;
  /** 1-based number of the last frame contained in the event; 0 = the WAL was empty. */
  readonly frame: number;
  /** Cumulative frame checksum after `frame`. */
  readonly checksum1: number;
  readonly checksum2: number;
}

/** First record of every log; of one that goes on where a lost one ended it is kept aside, as when it was trimmed. */
export interface Genesis {
  readonly kind: "genesis";
  readonly set: string;
  /** UUID of this log; a re-created log has another. */
  readonly logId: string;
  /** Secret seed of the rolling page checksum of this set, u64. */
  readonly checksumSeed: bigint;
  /** `tidemark x.y.z`, for people. */
  readonly createdBy: string;
}

/** Starts an epoch: from here on only `writer` may append. */
export interface EpochStart {
  readonly kind: "epoch";
  readonly epoch: Epoch;
  /** UUID of the capture agent's state. */
  readonly writer: string;
  readonly host: string;
  /** new-log: a promotion with a log that was begun anew, because the one before is lost; `previousHash` is of its record. */
  readonly reason: "start" | "takeover" | "promotion" | "switchover" | "new-log";
  /**
   * Last offset whose state the writer has. Left out when that is all before this record: of a promotion that was forced,
   * what lies between is lost, and taken back by the first commits of the epoch.
   */
  readonly contains?: Offset;
}

/** Pages of a transaction (or copy) too large for one record. Not applied before its `sqlite.commit`. */
export interface SqlitePart {
  readonly kind: "sqlite.part";
  readonly database: string;
  /** Identifies the transaction; the same number is in its `sqlite.commit`. Rises within a log. */
  readonly transaction: number;
  /** 0, 1, 2 … within the transaction. A later image of a page supersedes an earlier one. */
  readonly sequence: number;
  readonly pageSize: number;
  readonly pages: readonly PageImage[];
}

/**
 * Makes a transaction visible: `parts` earlier `sqlite.part` records of the same `transaction`, then `pages`.
 * Parts of a transaction that was never closed are void as soon as another transaction of the database begins.
 */
export interface SqliteCommit {
  readonly kind: "sqlite.commit";
  readonly database: string;
  readonly transaction: number;
  readonly parts: number;
  /**
   * commit: what SQLite committed, complete. copy: a full copy, replaces whatever the standby has (`before` is 0).
   * repair: the difference after a gap; commits inside the gap cannot be told apart.
   */
  readonly cause: "commit" | "copy" | "repair";
  /** How many SQLite commits are in it (several when coalesced); 0 when not known (copy, repair). */
  readonly commits: number;
  readonly pageSize: number;
  /** Database size in pages after the commit; larger pages are dropped. */
  readonly sizePages: number;
  readonly pages: readonly PageImage[];
  /** Rolling checksum over all pages before and after; u64. See sqlite/page-index.ts. */
  readonly before: bigint;
  readonly after: bigint;
  readonly wal: WalPosition;
  /** For copy and repair: since when (ms since 1970) commits may have passed one by one unseen. */
  readonly gapSinceMs?: number;
}

export interface Mark {
  readonly kind: "mark";
  readonly name: string;
}

/** Says that the writer lives and how far it is, when there is nothing else to say. */
export interface Heartbeat {
  readonly kind: "heartbeat";
  readonly writer: string;
  readonly host: string;
  /** position: standbys are to say beside the log how far they are, as soon as they have applied this. */
  readonly asks?: "position";
  /**
   * UUID of the standby to which the writer hands over: its epoch may begin with the very next record. Any other record
   * there takes the offer back.
   */
  readonly successor?: string;
}

/** Content of files, once for all that hold it. Comes before the first record that needs it. */
export interface FileChunk {
  readonly kind: "file.chunk";
  /** SHA-256 of `data`; with a key set HMAC-SHA-256, see tree/content-id.ts. */
  readonly id: Uint8Array;
  readonly data: Uint8Array;
}

/** Owner, rights and time of what stands at a path. */
export interface PathMetadata {
  /** Permission bits with setuid, setgid and sticky: `st_mode & 0o7777`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** ns since 1970. */
  readonly mtimeNs: bigint;
  /** Extended attributes by name; left out when there are none. */
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
}

/** A file as it is from here on. `tree` is its name in the set. */
export interface FilePut extends PathMetadata {
  readonly kind: "file.put";
  readonly tree: string;
  readonly path: TreePath;
  /** Identifies this version; the same number is in its parts. Rises within a log. */
  readonly put: number;
  /** Earlier `file.part` records of the same `put`, whose chunks come before those of this record. */
  readonly parts: number;
  readonly size: number;
  /** SHA-256 of the whole content. */
  readonly hash: Uint8Array;
  /** See chunk-list.ts. Every chunk is in an earlier record, or `data` of this one. */
  readonly chunks: Uint8Array;
  /** The files of a tree that share this number are one file with several names (hard links). */
  readonly group?: number;
  /** The content itself when it is small: then `chunks` has one entry, its name, and later puts may refer to it. */
  readonly data?: Uint8Array;
}

/** Chunks of a file with too many of them for one record. Void unless its `file.put` comes. */
export interface FilePart {
  readonly kind: "file.part";
  readonly tree: string;
  readonly put: number;
  /** 0, 1, 2 … within the put. */
  readonly sequence: number;
  readonly chunks: Uint8Array;
}

/** There is no file or symbolic link at this path any more. */
export interface FileRemove {
  readonly kind: "file.remove";
  readonly tree: string;
  readonly path: TreePath;
}

/** A directory as it is from here on; what is in it stays. */
export interface DirectoryPut extends PathMetadata {
  readonly kind: "dir.put";
  readonly tree: string;
  readonly path: TreePath;
}

/** There is no directory at this path any more, and nothing that was under it. */
export interface DirectoryRemove {
  readonly kind: "dir.remove";
  readonly tree: string;
  readonly path: TreePath;
}

/** A symbolic link. It is never followed. */
export interface LinkPut {
  readonly kind: "link.put";
  readonly tree: string;
  readonly path: TreePath;
  /** As readlink gives it. */
  readonly target: ByteString;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
}

/**
 * Announces the key with which records after it are encrypted: by its offset they name it. Said again now and then, so
 * that a log can be trimmed.
 */
export interface KeyAnnounced {
  readonly kind: "key";
  /** 16 bytes; the same in every record that announces this key. */
  readonly id: Uint8Array;
  /** An age file for the recipients. In it: the data key, then the chunk-name key, 32 bytes each. */
  readonly wrapped: Uint8Array;
  /** Public keys, `age1…`: whose identities open it. */
  readonly recipients: readonly string[];
}

/** What says something of one place in a tree. */
export type TreeEvent = FilePut | FileRemove | DirectoryPut | DirectoryRemove | LinkPut;

/**
 * A record of a kind that this version does not know and that its writer flagged as skippable: readers pass over it, and
 * offsets and hash chain stay contiguous. Only ever read, never written.
 */
export interface Skipped {
  readonly kind: "skipped";
  /** Kind code in the record's header. */
  readonly code: number;
}

/** An encrypted record that was read without its key. Only ever read, never written. */
export interface Sealed {
  readonly kind: "sealed";
  readonly of: EventKind;
}

/** What an event says. */
export type EventBody =
  | Genesis
  | EpochStart
  | SqlitePart
  | SqliteCommit
  | Mark
  | Heartbeat
  | FileChunk
  | FilePart
  | KeyAnnounced
  | TreeEvent;
export type EventKind = EventBody["kind"];

/** A record of the log, decoded. */
export interface LogEvent {
  readonly offset: Offset;
  readonly epoch: Epoch;
  /** ms since 1970; never less than the previous event's. */
  readonly timeMs: number;
  /** Length of the encoded record in bytes. */
  readonly bytes: number;
  /** Everything in the trees that was known to have changed before this event is in the log up to it. */
  readonly consistent?: true;
  readonly body: EventBody | Skipped | Sealed;
}
