import type { LogEvent, SqliteCommit, SqlitePart } from "../event/kinds.ts";
import type { Epoch, Offset } from "../event/positions.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { PageSpool } from "./sqlite/page-spool.ts";

/** Parts of a transaction whose commit record has not come yet. */
export class OpenTransaction {
  readonly transaction: number;
  /** Of its first part. */
  readonly first: { readonly offset: Offset; readonly epoch: Epoch };
  readonly pages: PageSpool;
  #parts = 0;

  constructor({ offset, epoch }: LogEvent, part: SqlitePart, spoolDirectory: string) {
    this.transaction = part.transaction;
    this.first = { offset, epoch };
    this.pages = new PageSpool(part.pageSize, spoolDirectory);
  }

  /** May be called again with the same part after it threw (no room on the disk). */
  add(part: SqlitePart, at: Offset): void {
    if (part.sequence !== this.#parts || part.pageSize !== this.pages.pageSize) {
      throw incomplete(part, at, `part ${part.sequence} follows ${this.#parts} parts`);
    }
    for (const page of part.pages) this.pages.put(page.pageNumber, page.data);
    this.#parts += 1;
  }

  requireComplete(commit: SqliteCommit, at: Offset): void {
    if (commit.parts === this.#parts && commit.pageSize === this.pages.pageSize) return;
    throw incomplete(commit, at, `its commit names ${commit.parts} parts, ${this.#parts} came`);
  }

  close(): void {
    this.pages.close();
  }
}

export function incomplete(body: SqlitePart | SqliteCommit, at: Offset, evidence: string): TidemarkError {
  return new TidemarkError(
    "RECORD_INVALID",
    `offset ${at}: transaction ${body.transaction} of ${body.database} is not whole: ${evidence}`,
    { hint: "The writer of the log is at fault. Report it; a new full copy by capture heals the standby." },
  );
}
