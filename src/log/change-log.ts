import type { Offset } from "../event/positions.ts";
import type { LogKeys } from "./log-keys.ts";

/** What a log holds. `first` is `last + 1` when it holds nothing; both are 1 and 0 in a new log. */
export interface LogBounds {
  readonly first: Offset;
  readonly last: Offset;
  /** Bytes stored, as the log accounts for them. */
  readonly bytes: number;
}

/** A log that is made anew and goes on with the offsets of one that is lost. It looks like one that was trimmed. */
export interface LogBeginning {
  /** Its first record comes after this offset. */
  readonly after: Offset;
  /** UUID of the writer who makes it. The same one may do it again; for others it exists. */
  readonly writer: string;
  /** First record of the lost log, made anew: it names the set, and stays the name of the log. */
  readonly genesis: Uint8Array;
}

/** One record as the log stores it: opaque but for the header of proto/record.md. */
export interface StoredRecord {
  readonly offset: Offset;
  readonly data: Uint8Array;
}

export interface ReadOptions {
  readonly signal: AbortSignal;
  /** true: wait at the head for more until `signal` aborts. false: end at the head found at the call. */
  readonly follow: boolean;
}

/** What a log guarantees about an acknowledged append, in words for `check` and `status`. */
export interface LogDurability {
  /** true when an acknowledged record survives a power cut of one machine. */
  readonly survivesPowerLoss: boolean;
  readonly text: string;
  readonly concerns: readonly LogConcern[];
}

/** Something about the place of the log that works and is worth a warning. */
export interface LogConcern {
  readonly code: string;
  readonly text: string;
  /** The next step. */
  readonly hint: string;
}

/** A standby that reads a log, as it says itself. */
export interface RegisteredReplica {
  /** UUID of the standby. */
  readonly id: string;
  readonly host: string;
  /** Root of the standby on that host. */
  readonly standby: string;
  /** Nothing up to here is needed by it any more. */
  readonly offset: Offset;
  /** When it said so, by its clock; ms since 1970. */
  readonly atMs: number;
  /** Where it stood when it said so; undefined: an older version said it. */
  readonly position?: StandbyPosition | undefined;
}

/** How far a standby is, for whoever waits for it. */
export interface StandbyPosition {
  /** Last event that readers see there. */
  readonly applied: Offset;
  /** Whether every event so far matched its checksum. */
  readonly verified: boolean;
  /** Its agent can become the primary's: not that of `run`, which is the primary's already. */
  readonly promotable: boolean;
}

/**
 * The seam to the log. One contract suite (test/contract/change-log.ts) runs on every implementation.
 *
 * Records are bytes encoded by event/codec.ts; their header carries offset and epoch. Offsets are contiguous: the
 * first record of a new log is 1, and after `trim` the numbers go on.
 */
export interface ChangeLog extends AsyncDisposable {
  /** For messages: `embedded:/var/lib/tidemark/log`, `nats://host:4222 stream TIDEMARK_app`. Never a password. */
  readonly location: string;

  /** Opens encrypted records; undefined when there is nothing that could. */
  readonly keys?: LogKeys | undefined;

  /** @throws LOG_UNREACHABLE, LOG_DENIED, LOG_FOREIGN (not a log of Tidemark's, or of another set) */
  bounds(): Promise<LogBounds>;

  /**
   * The record at `at`; undefined when it was trimmed or is beyond the head. The genesis (offset 1) outlives every trim:
   * it names the log.
   */
  get(at: Offset): Promise<Uint8Array | undefined>;

  /**
   * Appends all records after `expectedHead`; resolves with the new head when they are acknowledged. When it throws, none
   * of them is in the log, or (JetStream, or when `signal` aborted) the first few of them are.
   *
   * The memory of the records belongs to the log from the call on. Records must carry consecutive offsets from `expectedHead + 1`. Further calls may be made before earlier ones
   * settled, with the head they predict: they land in order, and when one fails all later ones fail.
   * Exactly once: after a lost acknowledgement the implementation finds out whether the record landed.
   * The number of unacknowledged bytes is bounded: a call waits for room before it sends.
   * An outage and a full log (LOG_FULL, told to the `onProblem` given at opening) are waited out with back-off until
   * `signal` aborts; they are not errors.
   *
   * @throws FENCED (a record of a higher epoch stands where ours should), LOG_FOREIGN_WRITER (somebody else's record
   *   of the same or a lower epoch), LOG_REGRESSED (the head is before `expectedHead`), LOG_RECREATED (another log
   *   stands in its place), LOG_DENIED, RECORD_TOO_LARGE; LOG_UNREACHABLE only when `signal` aborted while waiting.
   */
  append(records: readonly Uint8Array[], expectedHead: Offset, signal: AbortSignal): Promise<Offset>;

  /**
   * Yields batches of contiguous records from `after + 1` on, a batch of at most about 16 MiB, never empty. The next
   * batch is fetched only when asked for (bounded memory under a slow reader). With `follow`, outages are waited out.
   *
   * @throws LOG_GAP (records after `after` were purged), LOG_REGRESSED (`after` is beyond the head), LOG_RECREATED
   *   (another log took its place meanwhile), LOG_UNREACHABLE (not with `follow`), LOG_DENIED
   */
  read(after: Offset, options: ReadOptions): AsyncIterable<readonly StoredRecord[]>;

  /** Offset of the last record whose time is at or before `timeMs`; `first - 1` when all are later. */
  locate(timeMs: number): Promise<Offset>;

  /**
   * Drops records up to and including `through`, but never the newest record: the hash chain and the epoch go on from it.
   * Idempotent.
   */
  trim(through: Offset): Promise<void>;

  /** Says how far a standby is, in the place of what it said before. @throws LOG_DENIED, LOG_UNREACHABLE */
  register(replica: RegisteredReplica): Promise<void>;

  /** The standbys that said how far they are. @throws LOG_DENIED, LOG_UNREACHABLE */
  replicas(): Promise<readonly RegisteredReplica[]>;

  durability(): Promise<LogDurability>;
}
