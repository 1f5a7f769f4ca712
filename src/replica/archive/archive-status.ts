import type { Offset } from "../../event/positions.ts";
import type { RegisteredReplica } from "../../log/change-log.ts";

export interface ArchivePoint {
  readonly offset: Offset;
  /** Time of that event, ms since 1970. */
  readonly atMs: number;
}

/** One repository, as its archiver sees it. */
export interface RepositoryStatus {
  /** For people; never a secret. */
  readonly location: string;
  /** What keeps it from being brought up to date. */
  readonly problem: string | undefined;
  /** Everything up to here is in its segments. */
  readonly archived: ArchivePoint | undefined;
  /** The newest base, read back after it was written. */
  readonly base: ArchivePoint | undefined;
  /** Pages looked at, of all, of a base under way. */
  readonly baseUnderWay: { readonly done: number; readonly total: number } | undefined;
  /** Bases given up since the start because the standby's WAL had to be emptied. */
  readonly basesAbandoned: number;
  /** When retention was applied here the last time since the start; ms since 1970. */
  readonly expiredMs: number | undefined;
  /** Stored in all, as far as this agent knows; undefined until it has been reached. */
  readonly bytes: number | undefined;
  /** What the store was asked for since the start, repetitions included. */
  readonly requests: number;
}

/** What keeps the log from being trimmed. */
export interface TrimStatus {
  /** In words; undefined: nothing but that the newest events stay. */
  readonly heldBy: string | undefined;
  /** It does so for longer than it should. */
  readonly overdue: boolean;
  /** Standbys that were not heard of for so long that they do not count. */
  readonly forgotten: readonly RegisteredReplica[];
}

export function shownReplica({ host, standby, atMs }: RegisteredReplica): string {
  return `${host}:${standby}, last heard of ${new Date(atMs).toISOString()},`;
}

export function forgottenText(replica: RegisteredReplica): string {
  return `the standby ${shownReplica(replica)} holds the log up no longer: when it comes back it needs a repository to go on from`;
}
