import { offset as toOffset, type Offset } from "../event/positions.ts";
import type { LogEvent, PageImage } from "../event/kinds.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { readEvents } from "../log/log-reader.ts";
import { readBasePages } from "../repository/base-pages.ts";
import type { Repository } from "../repository/repository.ts";
import { hasCode } from "../runtime/errors.ts";
import { type PageIndex, pageHash } from "../sqlite/page-index.ts";
import { archivedEvents } from "./archived-events.ts";
import type { LookBack } from "./look-back.ts";
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

export interface PagePlaces {
  readonly log: ChangeLog;
  readonly lookBack: LookBack;
}

/**
 * Looks in the log, and then in the repositories, for the images of pages that a standby has lost, and puts them into
 * `spool`. The hash alone proves an image, wherever it stands. Returns the pages that are nowhere (any more).
 *
 * @throws INTERRUPTED when `signal` aborted before, what readEvents throws, what keeps a repository from being read for a while
 */
export async function findPages(
  { log, lookBack }: PagePlaces,
  wanted: WantedPages,
  spool: PageSpool,
): Promise<number[]> {
  const search = new PageSearch(wanted, spool);
  await search.inLog(log);
  if (search.missing.size > 0) await lookBack.first((repository) => search.inRepository(repository));
  if (search.missing.size > 0) requireGoingOn(wanted.signal);
  return [...search.missing];
}

class PageSearch {
  readonly missing: Set<number>;
  readonly #wanted: WantedPages;
  readonly #spool: PageSpool;

  constructor(wanted: WantedPages, spool: PageSpool) {
    this.#wanted = wanted;
    this.#spool = spool;
    this.missing = new Set(wanted.pageNumbers);
  }

  async inLog(log: ChangeLog): Promise<void> {
    const { through, signal } = this.#wanted;
    for (let first = 0; this.missing.size > 0;) {
      first = (await log.bounds()).first;
      try {
        for await (const events of readEvents(log, { after: toOffset(first - 1), through, follow: false, signal })) {
          if (this.#takeEvents(events)) return;
        }
        return;
      } catch (error) {
        // Trimmed meanwhile: what is left is looked through again.
        if (!hasCode(error, "LOG_GAP") || (await log.bounds()).first <= first) throw error;
      }
    }
  }

  /** In the newest base that is not newer than the index, and in the events between. True when all were found. */
  async inRepository(repository: Repository): Promise<true | undefined> {
    const { through, database, signal } = this.#wanted;
    const bases = await repository.bases.list(signal);
    const base = bases.findLast(({ offset }) => offset <= through) ?? bases[0];
    if (!base) return undefined;
    const manifest = await repository.bases.read(base, signal);
    const cursor = { position: base.offset, hash: manifest.hash, logId: manifest.logId };
    if (cursor.position < through) {
      for await (const events of archivedEvents(repository, cursor, signal)) {
        if (this.#takeEvents(events)) return true;
        if (cursor.position >= through) break;
      }
    }
    const found = manifest.databases.find(({ name }) => name === database);
    if (!found || found.pageSize !== this.#wanted.index.pageSize) return undefined;
    const wanted = (page: number): boolean => this.missing.has(page);
    for await (const image of readBasePages(repository.blobs, found, { wanted, signal })) this.#take(image);
    return this.missing.size === 0 ? true : undefined;
  }

  /** Whether all are found now. */
  #takeEvents(events: readonly LogEvent[]): boolean {
    for (const { body } of events) for (const image of imagesOf(body, this.#wanted)) this.#take(image);
    return this.missing.size === 0;
  }

  #take({ pageNumber, data }: PageImage): void {
    const { index } = this.#wanted;
    if (!this.missing.has(pageNumber) || pageHash(index.seed, pageNumber, data) !== index.hashOf(pageNumber)) return;
    this.#spool.put(pageNumber, data);
    this.missing.delete(pageNumber);
  }
}

function imagesOf(body: LogEvent["body"], { database, index }: WantedPages): readonly PageImage[] {
  const ours = (body.kind === "sqlite.part" || body.kind === "sqlite.commit") && body.database === database;
  return ours && body.pageSize === index.pageSize ? body.pages : [];
}
