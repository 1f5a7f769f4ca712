import type { Offset } from "../event/positions.ts";
import type { ScrubStatus } from "../sqlite/page-comparison.ts";

export interface DatabaseCaptureStatus {
  readonly name: string;
  readonly path: string;
  /**
   * resting: quiet, and looked at without being held open (maxPinned). vanished: found by a pattern once, not there now.
   * waiting: something is in the way, see `problem`.
   */
  readonly state: "starting" | "copying" | "following" | "resting" | "vanished" | "waiting" | "stopped";
  /** Why it waits, for people; undefined when all is well. */
  readonly problem: string | undefined;
  readonly pages: number;
  readonly commits: number;
  readonly copies: number;
  readonly repairs: number;
  readonly seals: number;
  /** How often the application's own checkpoints got the right of way, so that its WAL stayed short. */
  readonly ways: number;
  readonly walBytes: number;
  /** Progress of a copy or repair: pages looked at of pages in all. */
  readonly copy: { readonly done: number; readonly total: number } | undefined;
  /** Comparison of the real file with what the log holds. */
  readonly scrub: ScrubStatus;
}

export interface TreeCaptureStatus {
  readonly name: string;
  readonly path: string;
  /** scanning: for the first time since the start. halted: nothing of it is captured, see `problem`. */
  readonly state: "scanning" | "following" | "halted";
  /** What is wrong, for people; undefined when all is well. */
  readonly problem: string | undefined;
  /** As the log has them. */
  readonly files: number;
  readonly bytes: number;
  /** Names and directories that may have changed and were not looked at yet. */
  readonly dirty: number;
  /** Files that do not stand still: what the log has of them may be older. */
  readonly restless: number;
  /** Of files that are being read. */
  readonly pendingBytes: number;
  /** Scans after the first, since the start. */
  readonly rescans: number;
  /** Reads during which the file changed. */
  readonly unstableReads: number;
  /** A scan under way: files looked at, of about how many. */
  readonly scan: { readonly done: number; readonly total: number } | undefined;
}

export interface CaptureStatus {
  readonly set: string;
  readonly writer: string;
  readonly epoch: number;
  /** Last acknowledged event. */
  readonly offset: Offset;
  /** Its time, ms since 1970; 0 when there is none. */
  readonly atMs: number;
  /** How long the oldest captured but unacknowledged commit has been waiting, ms; 0 when none is. */
  readonly lagMs: number;
  /** Commits that did not wait for all files that changed before them, since the start. */
  readonly overtaken: number;
  readonly databases: readonly DatabaseCaptureStatus[];
  readonly files: readonly TreeCaptureStatus[];
  /** Files that match a pattern and cannot join the set, and patterns that match nothing, for people. */
  readonly warnings: readonly string[];
}

/** One running capture. Made by `startCapture`. */
export interface CaptureAgent {
  /** Resolves when every database has its first copy (or repair) in the log. Rejects with what stopped the agent. */
  readonly ready: Promise<void>;
  /** Resolves after a stop with everything captured in the log; rejects with what stopped the agent. */
  readonly done: Promise<void>;
  status(): CaptureStatus;
  /** Appends a mark and resolves with its position. @throws MARK_EXISTS */
  mark(name: string): Promise<{ offset: Offset; atMs: number }>;
  /** What is captured from now on is encrypted with a new key; resolves with where it is announced. @throws NOT_ENCRYPTED */
  rotateKey(): Promise<{ key: string; offset: Offset }>;
  /** Resolves with an offset that contains every commit made before the call, once it is acknowledged. */
  sync(): Promise<Offset>;
  /** Standbys say beside the log how far they are, as soon as they have applied the offset that this resolves with. */
  askStandbys(): Promise<Offset>;
}
