import type { Chunk } from "../event/chunk-list.ts";
import type { Offset } from "../event/positions.ts";
import type { ScrubStatus } from "../sqlite/page-comparison.ts";
import type { StandbyImage } from "./archive/standby-image.ts";

export interface DatabaseReplicaStatus {
  readonly name: string;
  readonly path: string;
  /** Last commit event applied to this database. */
  readonly offset: Offset;
  readonly pages: number;
  /** Rolling checksum as 16 hex digits, proved equal to the log's at `offset`. */
  readonly checksum: string;
  readonly walBytes: number;
  /** Whether every page of the file was read and compared since the start (it is, in the background). */
  readonly checked: boolean;
  readonly scrub: ScrubStatus;
  /** Times that wrong pages of it were repaired from the log, since the start. */
  readonly repairs: number;
}

/** A pass over all trees of a standby. */
export interface TreeScrubStatus {
  /** When the last one ended, RFC 3339; undefined before the first. */
  readonly at: string | undefined;
  /** Files, directories and links that it compared. */
  readonly places: number;
  /** Those of them that differed, and were repaired. */
  readonly differing: number;
  /** What it found in directories of the trees that the log knows nothing of, and left alone. */
  readonly strays: number;
  readonly running: boolean;
}

export interface TreeReplicaStatus {
  readonly name: string;
  readonly path: string;
  /** Last event of this tree that is applied. */
  readonly offset: Offset;
  readonly files: number;
  /** Every name of a file counted. */
  readonly bytes: number;
  /** Times that something wrong in it was repaired from the log, since the start. */
  readonly repairs: number;
}

export interface ReplicaStatus {
  readonly set: string;
  readonly state: "starting" | "catching-up" | "following" | "halted" | "stopped";
  readonly problem: string | undefined;
  /** Last event applied (of any kind). */
  readonly offset: Offset;
  /** Time of that event, ms since 1970; 0 when none. */
  readonly atMs: number;
  /** Head of the log as last seen. */
  readonly head: Offset;
  /** Events between `offset` and `head`. */
  readonly lagEvents: number;
  /** Age of the oldest event not yet applied, ms; 0 when none waits. */
  readonly lagMs: number;
  /** From the event's time to its visibility on the standby, for the newest commit event, ms. */
  readonly lastApplyMs: number;
  /** Whether every event so far matched its checksum. */
  readonly verified: boolean;
  readonly databases: readonly DatabaseReplicaStatus[];
  readonly trees: readonly TreeReplicaStatus[];
  readonly treeScrub: TreeScrubStatus;
}

/** One running replica. Made by `startReplica`. */
export interface ReplicaAgent {
  /** Resolves when everything that was in the log at the start is applied. Rejects with what stopped the agent. */
  readonly ready: Promise<void>;
  /** Resolves after a stop; rejects with what stopped the agent. */
  readonly done: Promise<void>;
  status(): ReplicaStatus;
  /** Resolves when `offset` is applied; with the signal's abort it rejects INTERRUPTED. */
  waitApplied(offset: Offset, signal: AbortSignal): Promise<void>;
  /** UUID of the standby, and up to where it needs nothing from the log any more. */
  recorded(): { readonly id: string; readonly offset: Offset };
  /** Content that the log has, or had; undefined: it is nowhere. @throws what the log and the store throw */
  content(chunk: Chunk): Promise<Uint8Array | undefined>;
  /**
   * The standby at its next quiet point; pages of databases that are at the offset `known` says are not held. Whoever gets
   * it disposes of it. @throws INTERRUPTED with the signal's abort, and when the agent ends
   */
  image(known: ReadonlyMap<string, Offset>, signal: AbortSignal): Promise<StandbyImage>;
}
