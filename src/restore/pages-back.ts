import type { CommitOutline, PartOutline } from "../event/page-list.ts";
import type { Offset } from "../event/positions.ts";
import { lockBytePage } from "../format/database-header.ts";
import type { OutlinedEvent } from "../repository/segment.ts";
import { checksumMismatch, notWhole, type Settled } from "./database-builder.ts";
import type { PlannedDatabase } from "./plan.ts";

/** A page image that counts, and where in its piece it lies. */
export interface WantedPage {
  readonly pageNumber: number;
  readonly at: number;
  readonly bytes: number;
}

type Outlined<B> = { readonly offset: Offset; readonly body: B };

/**
 * Which page images of one database count, told its events from the last to the first: the last image of each page, unless
 * the database was smaller than that at some commit behind it. Parts count when a commit behind them closes their
 * transaction.
 */
export class PagesBack {
  readonly #plan: PlannedDatabase;
  readonly #lockPage: number;
  /** A bit for each page of which an image was seen. */
  #seen = new Uint8Array(1024);
  /** Pages behind this one were dropped by a commit that came later. */
  #leastPages = Infinity;
  #newest: Outlined<CommitOutline> | undefined;
  #oldest: Outlined<CommitOutline> | undefined;
  /** Parts of the oldest commit that are still to come. */
  #partsLeft = 0;
  #openFrom: Offset | undefined;

  constructor(plan: PlannedDatabase) {
    this.#plan = plan;
    this.#lockPage = lockBytePage(plan.pageSize);
  }

  /** First part of a transaction that nothing closes. */
  get openFrom(): Offset | undefined {
    return this.#openFrom;
  }

  /** @throws CHECKSUM_MISMATCH, RECORD_INVALID */
  take(event: OutlinedEvent): readonly WantedPage[] {
    const { offset, body } = event;
    if (offset <= this.#plan.afterOffset || offset > this.#plan.offset) return [];
    if (body.kind === "sqlite.commit") this.#commit({ offset, body });
    else if (!this.#isPart({ offset, body })) return [];
    if (body.pageSize === this.#plan.pageSize) return this.#wanted(event);
    throw notWhole(body, offset, `its page size is ${body.pageSize}, the copy's ${this.#plan.pageSize}`);
  }

  /** What the database is like behind the events that were taken; undefined when none of them was a commit. */
  end(): (Settled & { readonly offset: Offset }) | undefined {
    const [newest, oldest] = [this.#newest, this.#oldest];
    if (!newest || !oldest) return undefined;
    this.#requireWhole();
    this.#requireFollows(oldest, this.#plan.base?.checksum ?? 0n);
    const { sizePages, after: checksum } = newest.body;
    return { offset: newest.offset, sizePages, checksum, gone: this.#gone(sizePages) };
  }

  #commit(event: Outlined<CommitOutline>): void {
    this.#requireWhole();
    if (this.#oldest) this.#requireFollows(this.#oldest, event.body.after);
    this.#newest ??= event;
    this.#oldest = event;
    this.#partsLeft = event.body.parts;
    this.#leastPages = Math.min(this.#leastPages, event.body.sizePages);
  }

  /** Whether it belongs to the commit behind it. */
  #isPart({ offset, body }: Outlined<PartOutline>): boolean {
    if (!this.#oldest) this.#openFrom = offset;
    if (this.#oldest?.body.transaction !== body.transaction || this.#partsLeft === 0) return false;
    this.#partsLeft -= 1;
    if (body.sequence === this.#partsLeft) return true;
    throw notWhole(body, offset, `part ${body.sequence} came where part ${this.#partsLeft} belongs`);
  }

  #wanted({ body: { pageSize: bytes }, pageNumbers, pagesAt }: OutlinedEvent): WantedPage[] {
    const wanted: WantedPage[] = [];
    for (let index = pageNumbers.length - 1; index >= 0; index -= 1) {
      const pageNumber = pageNumbers[index] ?? 0;
      if (pageNumber > this.#leastPages || pageNumber === this.#lockPage || !this.#isFirstSeen(pageNumber)) continue;
      wanted.push({ pageNumber, at: pagesAt + index * bytes, bytes });
    }
    return wanted;
  }

  #isFirstSeen(pageNumber: number): boolean {
    const [byte, bit] = [pageNumber >>> 3, 1 << (pageNumber & 7)];
    if (byte >= this.#seen.length) {
      const grown = new Uint8Array(Math.max(byte + 1, this.#seen.length * 2));
      grown.set(this.#seen);
      this.#seen = grown;
    }
    const before = this.#seen[byte] ?? 0;
    this.#seen[byte] = before | bit;
    return (before & bit) === 0;
  }

  *#gone(sizePages: number): Generator<number> {
    for (let page = this.#leastPages + 1; page <= sizePages; page += 1) {
      const isSeen = ((this.#seen[page >>> 3] ?? 0) & (1 << (page & 7))) !== 0;
      if (!isSeen && page !== this.#lockPage) yield page;
    }
  }

  #requireWhole(): void {
    if (!this.#oldest || this.#partsLeft === 0) return;
    const { offset, body } = this.#oldest;
    throw notWhole(body, offset, `it has ${body.parts} parts, ${body.parts - this.#partsLeft} came`);
  }

  #requireFollows({ offset, body }: Outlined<CommitOutline>, found: bigint): void {
    if (body.before === found) return;
    throw checksumMismatch(body.database, offset, { when: "before", found, expected: body.before });
  }
}
