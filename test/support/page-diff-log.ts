import { pagesPerRecord } from "../../src/event/codec.ts";
import type { EventBody, PageImage, SqliteCommit } from "../../src/event/kinds.ts";
import type { Offset } from "../../src/event/positions.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { LogWriter } from "../../src/log/log-writer.ts";
import { type Clock, systemClock } from "../../src/runtime/clock.ts";
import { PageIndex } from "../../src/sqlite/page-index.ts";
import type { ImagedDatabase } from "./database-images.ts";

/** A log that is fed the page differences of real databases: a capture agent for tests, one event a call. */
export class PageDiffLog implements AsyncDisposable {
  readonly log: ChangeLog;
  readonly writer: LogWriter;
  readonly #indexes = new Map<string, PageIndex>();
  #transaction = 0;

  private constructor(log: ChangeLog, writer: LogWriter) {
    this.log = log;
    this.writer = writer;
  }

  static async open(directory: string, set = "app", clock: Clock = systemClock): Promise<PageDiffLog> {
    return PageDiffLog.over(await openEmbeddedLog({ directory, set, mode: "write" }), set, clock);
  }

  /** The log is closed with it. */
  static async over(log: ChangeLog, set = "app", clock: Clock = systemClock): Promise<PageDiffLog> {
    const writer = await LogWriter.open({
      log,
      set,
      identity: { writer: "00000000-0000-4000-8000-000000000001", host: "test" },
      known: undefined,
      clock,
      signal: new AbortController().signal,
      foreignWriterGraceMs: 0,
      takeover: true,
    });
    return new PageDiffLog(log, writer);
  }

  index(name: string): PageIndex | undefined {
    return this.#indexes.get(name);
  }

  /** Everything that changed in the database since the last call, as one event; a full copy the first time. */
  ship(name: string, database: ImagedDatabase): Promise<Offset> {
    const copy = this.#indexes.get(name)?.pageSize !== database.pageSize;
    const pages = copy ? database.allPages() : database.changes();
    return this.append(this.commitBodies(name, { pages, cause: copy ? "copy" : "commit", database }));
  }

  copy(name: string, database: ImagedDatabase): Promise<Offset> {
    return this.append(this.commitBodies(name, { pages: database.allPages(), cause: "copy", database }));
  }

  async append(bodies: readonly EventBody[]): Promise<Offset> {
    return this.writer.append(bodies).acknowledged;
  }

  commitBodies(
    name: string,
    change: {
      pages: readonly PageImage[];
      cause: SqliteCommit["cause"];
      database: { pageSize: number; sizePages: number };
    },
  ): EventBody[] {
    const { pages, cause, database } = change;
    const { pageSize, sizePages } = database;
    const known = cause === "copy" ? undefined : this.#indexes.get(name);
    const index = known ?? new PageIndex(pageSize, this.writer.checksumSeed);
    const before = index.checksum;
    for (const { pageNumber, data } of pages) index.set(pageNumber, data);
    index.resize(sizePages);
    this.#indexes.set(name, index);
    this.#transaction += 1;
    const transaction = this.#transaction;
    const perRecord = pagesPerRecord(pageSize);
    const bodies: EventBody[] = [];
    let at = 0;
    for (; pages.length - at > perRecord; at += perRecord) {
      const sequence = bodies.length;
      const part = pages.slice(at, at + perRecord);
      bodies.push({ kind: "sqlite.part", database: name, transaction, sequence, pageSize, pages: part });
    }
    bodies.push({
      kind: "sqlite.commit",
      database: name,
      transaction,
      parts: bodies.length,
      cause,
      commits: cause === "commit" ? 1 : 0,
      pageSize,
      sizePages,
      pages: pages.slice(at),
      before,
      after: index.checksum,
      wal: { salt1: 0, salt2: 0, frame: 0, checksum1: 0, checksum2: 0 },
    });
    return bodies;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.log[Symbol.asyncDispose]();
  }
}
