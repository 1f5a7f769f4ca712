import type { ComparedTable } from "./table-changes.ts";

/** What a former primary had in a database, and the log has not. */
export interface DivergedDatabase {
  readonly name: string;
  /** Pages that differ, and their bytes. */
  readonly pages: number;
  readonly bytes: number;
  /** SQLite's commits; null: its WAL does not tell any more. */
  readonly commits: number | null;
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
  /** Last common offset: the standby begins with it. */
  readonly offset: number;
  /** Its time, RFC 3339. */
  readonly at: string;
  /** The primary's. */
  readonly epoch: number;
  readonly primary: string;
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
