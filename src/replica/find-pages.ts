import { offset as toOffset, type Offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { readEvents } from "../log/log-reader.ts";
import { type PageIndex, pageHash } from "../sqlite/page-index.ts";
import type { PageSpool } from "./sqlite/page-spool.ts";
import { requireGoingOn } from "./standby-errors.ts";

export interface WantedPages {
  readonly database: string;
  readonly pageNumbers: Iterable<number>;
  /** Says what each page must be: an image with another hash is an older or a newer one. */
  readonly index: PageIndex;
  /** Offset of the index: nothing later is read. */
  readonly through: Offset;
  readonly signal: AbortSignal;
}

/**
 * Looks in the log for the images of pages that a standby has lost, and puts them into `spool`. The hash alone proves an
 * image, wherever it stands. Returns the pages that the log does not hold (any more).
 *
 * @throws INTERRUPTED when `signal` aborted before, what readEvents throws
 */
export async function findPages(log: ChangeLog, wanted: WantedPages, spool: PageSpool): Promise<number[]> {
  const { database, index, through, signal } = wanted;
  const missing = new Set(wanted.pageNumbers);
  const { first } = await log.bounds();
  const after = toOffset(first - 1);
  if (missing.size === 0) return [];
  for await (const events of readEvents(log, { after, through, follow: false, signal })) {
    for (const { body } of events) {
      const ours = (body.kind === "sqlite.part" || body.kind === "sqlite.commit") && body.database === database;
      if (!ours || body.pageSize !== index.pageSize) continue;
      for (const { pageNumber, data } of body.pages) {
        if (!missing.has(pageNumber) || pageHash(index.seed, pageNumber, data) !== index.hashOf(pageNumber)) continue;
        spool.put(pageNumber, data);
        missing.delete(pageNumber);
      }
    }
    if (missing.size === 0) break;
  }
  if (missing.size > 0) requireGoingOn(signal);
  return [...missing];
}
