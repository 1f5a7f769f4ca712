import fs from "node:fs";
import path from "node:path";

import type { LogEvent, PageImage, SqliteCommit, SqlitePart } from "../event/kinds.ts";
import { BEFORE_FIRST, type Offset } from "../event/positions.ts";
import { lockBytePage } from "../format/database-header.ts";
import type { Clock } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { invariant } from "../runtime/invariant.ts";
import { PageIndex } from "../sqlite/page-index.ts";
import { incomplete, OpenTransaction } from "./open-transaction.ts";
import { type CheckResult, readPage } from "./page-check.ts";
import { buildDatabase } from "./sqlite/new-database.ts";
import { PageSpool } from "./sqlite/page-spool.ts";
import { WalWriter } from "./sqlite/wal-writer.ts";
import { storedPageSize } from "./sqlite/stored-page-size.ts";
import { diverged, foreign, mismatch } from "./standby-errors.ts";
import type { StandbyPaths } from "./standby-paths.ts";
import type { StandbyState } from "./standby-state.ts";

export interface StandbyDatabaseOptions {
  readonly name: string;
  readonly path: string;
  readonly paths: StandbyPaths;
  readonly state: StandbyState;
  readonly seed: bigint;
  readonly clock: Clock;
  /** A reseed: a file that is there is moved aside, whosever it is. */
  readonly replaceFile: boolean;
}

/**
 * One database on the standby. `take` proves an event and gathers its pages, `show` makes everything gathered visible
 * as one commit. Between the two the index is ahead of the file.
 */
export class StandbyDatabase {
  readonly name: string;
  readonly path: string;
  readonly #options: StandbyDatabaseOptions;
  #index: PageIndex | undefined;
  #offset: Offset = BEFORE_FIRST;
  #writer: WalWriter | undefined;
  #open: OpenTransaction | undefined;
  /** Net images proved but not yet shown. */
  #pending: PageSpool | undefined;
  #pendingSizePages = 0;
  /** Whether the file holds exactly what the index says whenever nothing is pending: not before the first `show`. */
  #exact = false;
  /** First event that could not be applied because no full copy came before it. */
  #unseeded: Offset | undefined;
  #dirty = false;
  /** A commit failed its proof: the index has its pages and must not be recorded. */
  #spoiled = false;
  /** A commit was proved and there was no room to gather all of its pages: what is pending is not whole. */
  #torn = false;
  #shownBytes = 0;
  #lastCheck: CheckResult | undefined;

  constructor(options: StandbyDatabaseOptions) {
    this.name = options.name;
    this.path = options.path;
    this.#options = options;
    const stored = options.state.indexes.load(options.name, options.seed);
    if (!stored) return;
    this.#index = stored.index;
    this.#offset = stored.offset;
    if (!fs.existsSync(this.path)) throw diverged(this.path, "it is not there");
    this.#openWriter(stored.index.pageSize);
  }

  /** Last commit event proved. */
  get offset(): Offset {
    return this.#offset;
  }

  get index(): PageIndex | undefined {
    return this.#index;
  }

  get writer(): WalWriter | undefined {
    return this.#writer;
  }

  /** First part of a transaction that is not closed yet: reading must start before it. */
  get openSince(): OpenTransaction["first"] | undefined {
    return this.#open?.first;
  }

  get unseeded(): Offset | undefined {
    return this.#unseeded;
  }

  /** Whether something was shown that is not recorded. */
  get dirty(): boolean {
    return this.#dirty;
  }

  get pending(): boolean {
    return this.#pending !== undefined;
  }

  /** Whether what was taken cannot be shown: it must be read again. */
  get torn(): boolean {
    return this.#torn;
  }

  /** Whether the file was compared with the index, page by page, since the start. */
  get checked(): boolean {
    return this.#lastCheck !== undefined;
  }

  /** How that last comparison went. */
  get lastCheck(): CheckResult | undefined {
    return this.#lastCheck;
  }

  markChecked(result: CheckResult): void {
    this.#lastCheck = result;
  }

  /** A page was found that is not what the index says: the scrub is to look at all of them, soon. */
  distrust(): void {
    this.#lastCheck = undefined;
  }

  /** Bytes shown since the last call. */
  takeShownBytes(): number {
    const bytes = this.#shownBytes;
    this.#shownBytes = 0;
    return bytes;
  }

  takePart(event: LogEvent, body: SqlitePart): void {
    if (event.offset <= this.#offset) return;
    // Parts of a transaction that was never closed are void as soon as another one begins.
    if (this.#open && this.#open.transaction !== body.transaction) this.#dropOpen();
    if (!this.#open) {
      if (body.sequence !== 0 && !this.#index) return void (this.#unseeded ??= event.offset);
      this.#open = new OpenTransaction(event, body, this.#options.paths.spool);
    }
    this.#open.add(body, event.offset);
  }

  /**
   * Proves a commit: the checksum before it and after it must be the log's. Only then its pages are gathered.
   * @throws CHECKSUM_MISMATCH, RECORD_INVALID; nothing of the event is shown then, now or later. No room for its pages:
   * then nothing at all may be shown any more, see `torn`
   */
  takeCommit(event: LogEvent, body: SqliteCommit): void {
    if (event.offset <= this.#offset) return;
    if (this.#open && this.#open.transaction !== body.transaction) this.#dropOpen();
    if (!this.#index && body.cause !== "copy") {
      this.#unseeded ??= event.offset;
      this.#dropOpen();
      return;
    }
    if (this.#open) this.#open.requireComplete(body, event.offset);
    else if (body.parts > 0) throw incomplete(body, event.offset, `none of its ${body.parts} parts came`);
    const index = body.cause === "copy" ? new PageIndex(body.pageSize, this.#options.seed) : this.#index;
    invariant(index, "a commit without an index");
    this.#prove(event, body, index);
    this.#torn = true;
    if (body.cause === "copy") this.#gatherCopy(body, index);
    else this.#gather(body, () => true);
    this.#torn = false;
    this.#index = index;
    this.#offset = event.offset;
    this.#unseeded = undefined;
    this.#dropOpen();
  }

  /** Makes everything gathered visible as one commit. When it throws, nothing is visible; call it again. */
  async show(): Promise<void> {
    const pending = this.#pending;
    invariant(!this.#torn, "half a commit must not be shown");
    if (pending) {
      if (this.#writer?.pageSize === pending.pageSize || this.#adoptFile(pending.pageSize)) await this.#append(pending);
      else await this.#build(pending);
      this.#shownBytes += pending.size * pending.pageSize;
      this.#dropPending();
      this.#dirty = true;
    }
    this.#exact = true;
  }

  /** Writes the index into the state; inside its transaction. */
  save(): void {
    if (!this.#dirty || !this.#index || this.#spoiled) return;
    invariant(!this.#pending, "an index ahead of its file must not be recorded");
    this.#options.state.indexes.save(this.name, this.#index, this.#offset);
    this.#dirty = false;
  }

  close(): void {
    this.#dropOpen();
    this.#dropPending();
    this.#writer?.close();
    this.#writer = undefined;
  }

  #prove(event: LogEvent, body: SqliteCommit, index: PageIndex): void {
    if (index.pageSize !== body.pageSize) {
      throw incomplete(body, event.offset, `its page size is ${body.pageSize}, the database's ${index.pageSize}`);
    }
    if (index.checksum !== body.before) throw mismatch(event, body, { when: "before", found: index.checksum });
    for (const { pageNumber, data } of this.#images(body)) {
      if (pageNumber > body.sizePages) continue;
      if (data.length !== body.pageSize)
        throw incomplete(body, event.offset, `page ${pageNumber} has ${data.length} bytes`);
      index.set(pageNumber, data);
    }
    index.resize(body.sizePages);
    this.#spoiled = index.checksum !== body.after;
    if (this.#spoiled) throw mismatch(event, body, { when: "after", found: index.checksum });
  }

  /** A full copy supersedes what is pending; where the file is known exactly, only pages that differ are written. */
  #gatherCopy(body: SqliteCommit, index: PageIndex): void {
    const file = this.#exact && !this.#pending && this.#index?.pageSize === body.pageSize ? this.#index : undefined;
    this.#dropPending();
    this.#gather(body, (pageNumber) => file?.hashOf(pageNumber) !== index.hashOf(pageNumber));
  }

  #gather(body: SqliteCommit, wanted: (pageNumber: number) => boolean): void {
    const { pageSize, sizePages } = body;
    const lockPage = lockBytePage(pageSize);
    const belongs = (page: number): boolean => page <= sizePages && page !== lockPage && wanted(page);
    this.#pending ??= new PageSpool(pageSize, this.#options.paths.spool);
    if (sizePages < this.#pendingSizePages) this.#pending.filter((page) => page <= sizePages);
    this.#pendingSizePages = sizePages;
    if (this.#open) {
      this.#open.pages.filter(belongs);
      this.#pending.absorb(this.#open.pages);
    }
    for (const { pageNumber, data } of body.pages) if (belongs(pageNumber)) this.#pending.put(pageNumber, data);
  }

  /** The last image of each page: those of the commit record supersede the parts'. */
  *#images(body: SqliteCommit): Generator<PageImage> {
    const inCommit = new Set(body.pages.map((page) => page.pageNumber));
    for (const pageNumber of this.#open?.pages.pageNumbers() ?? []) {
      if (!inCommit.has(pageNumber) && this.#open) yield { pageNumber, data: this.#open.pages.get(pageNumber) };
    }
    yield* body.pages;
  }

  async #append(pending: PageSpool): Promise<void> {
    const writer = this.#writer;
    invariant(writer, "no writer");
    // Nothing changed but the size: SQLite needs a frame to carry it.
    if (pending.size === 0 && writer.look(({ sizePages }) => sizePages) !== this.#pendingSizePages) {
      pending.put(1, readPage(writer, 1));
    }
    if (pending.size > 0) await writer.append(pending, this.#pendingSizePages);
  }

  /** A file of ours with this page size is written through its WAL, so that its readers stay. */
  #adoptFile(pageSize: number): boolean {
    const { state, replaceFile } = this.#options;
    if (this.#writer || replaceFile || !fs.existsSync(this.path)) return false;
    if (!state.claimed(this.name)) throw foreign(this.path);
    if (storedPageSize(this.path) !== pageSize) return false;
    this.#openWriter(pageSize);
    return true;
  }

  async #build(pages: PageSpool): Promise<void> {
    const { state, paths, replaceFile } = this.#options;
    const { pageSize } = pages;
    const sizePages = this.#pendingSizePages;
    const absent = sizePages - pages.size - (sizePages >= lockBytePage(pageSize) ? 1 : 0);
    if (absent !== 0) throw diverged(this.path, `its file is gone, and ${absent} pages of a full copy are missing`);
    state.claim(this.name);
    crashPoint("standby: claimed");
    this.#writer?.close();
    this.#writer = undefined;
    const aside = replaceFile ? path.join(paths.aside, this.name) : undefined;
    await buildDatabase(this.path, { pages, pageSize, sizePages, aside });
    this.#openWriter(pageSize);
  }

  #openWriter(pageSize: number): void {
    const { clock } = this.#options;
    this.#writer = new WalWriter({ path: this.path, pageSize, clock });
  }

  #dropOpen(): void {
    this.#open?.close();
    this.#open = undefined;
  }

  #dropPending(): void {
    this.#pending?.close();
    this.#pending = undefined;
  }
}
