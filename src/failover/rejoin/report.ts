import type { LastCommon } from "./last-common.ts";
import type { ComparedTable } from "./table-changes.ts";

/** What a former primary had in a database, and the log has not. */
export interface DivergedDatabase {
  readonly name: string;
  /** Pages that differ, and their bytes. */
  readonly pages: number;
  readonly bytes: number;
  /** SQLite's commits, as far as its WAL tells; null: it is gone. */
  readonly commits: number | null;
  /** The WAL was begun anew since the last common offset, so there may have been more. */
  readonly atLeast: boolean;
  /** Last write to its files, RFC 3339. */
  readonly until: string;
  /** Null until rows were compared: a dry run does not. */
  readonly tables: readonly ComparedTable[] | null;
  /** Indexes, triggers, views and whole tables. */
  readonly schemaChanges: number;
  /** The statements that lead from the last common offset to it. */
  readonly file: string | null;
  /** A copy of the whole database, because not everything could be compared. */
  readonly copy: string | null;
  readonly uncompared: readonly string[];
}

/** What a former primary had in a tree, and the log has not. */
export interface DivergedTree {
  readonly name: string;
  /** Files and links with other content, or new. */
  readonly files: number;
  readonly bytes: number;
  /** Of what is not there any more. */
  readonly removed: number;
  /** Where they are saved; null in a dry run. */
  readonly directory: string | null;
}

export interface RejoinReport {
  readonly ok: true;
  /** Last common offset: the standby begins with it. Null: it is not known. */
  readonly offset: number | null;
  /** Its time, RFC 3339. */
  readonly at: string | null;
  /** Of the first writer after this host; null: it is not known. */
  readonly epoch: number | null;
  readonly primary: string | null;
  readonly diverged: {
    /** Null when nothing did, and in a dry run. */
    readonly directory: string | null;
    readonly databases: readonly DivergedDatabase[];
    readonly trees: readonly DivergedTree[];
  };
  /** In the log, and taken back by a forced promotion; null: nothing. */
  readonly takenBack: { readonly after: number; readonly through: number } | null;
  /** What came, or would come, out of the log and the repositories. */
  readonly repaired: { readonly pages: number; readonly bytes: number };
  /** The old databases are kept whole, and the standby is built anew. */
  readonly anew: boolean;
  readonly durationMs: number;
  readonly dryRun?: true;
  /** What would be in the way. */
  readonly refusal?: string | null;
  /** It was a standby before. */
  readonly already?: true;
}

type Standing = Omit<RejoinReport, "durationMs" | "diverged" | "repaired">;

/** What is known of where the ways part. */
export function standing(common: LastCommon | undefined): Standing {
  if (!common) return { ok: true, offset: null, at: null, epoch: null, primary: null, takenBack: null, anew: true };
  const { offset, timeMs, winner, contains } = common;
  return {
    ok: true,
    offset,
    at: new Date(timeMs).toISOString(),
    epoch: winner.epoch,
    primary: winner.host,
    takenBack: contains === undefined ? null : { after: contains, through: offset },
    anew: false,
  };
}
