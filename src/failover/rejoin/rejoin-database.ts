import fs from "node:fs";
import path from "node:path";

import type { ShippedState } from "../../capture/sqlite/shipper.ts";
import type { Offset } from "../../event/positions.ts";
import { lockBytePage } from "../../format/database-header.ts";
import { findPages, type PagePlaces } from "../../replica/find-pages.ts";
import { buildDatabase } from "../../replica/sqlite/new-database.ts";
import { PageSpool } from "../../replica/sqlite/page-spool.ts";
import { hex } from "../../replica/standby-errors.ts";
import type { Clock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { makeDirectory, syncDirectory } from "../../runtime/durable-directory.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import { pageList } from "../../sqlite/page-comparison.ts";
import { FormerDatabase } from "./former-database.ts";
import { moveDatabase, removeDatabase, requireClosed } from "./move-database.ts";
import type { RejoinRecord } from "./rejoin-record.ts";
import type { DivergedDatabase } from "./report.ts";
import { saveDatabase } from "./save-database.ts";

export interface RejoinContext extends PagePlaces {
  readonly record: RejoinRecord;
  /** Where what diverged is saved; made when it is first asked for. */
  readonly diverged: () => string;
  /** Of the pages that are fetched. */
  readonly spool: string;
  /** Last common offset, for people. */
  readonly common: { readonly offset: Offset; readonly at: string };
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

export interface DatabaseToRejoin {
  readonly name: string;
  /** Where the application has it. */
  readonly source: string;
  /** Where the standby wants it. */
  readonly target: string;
  /** What the log says of it at the last common offset. */
  readonly shipped: ShippedState;
}

/** Brings a database of a former primary to the last common offset and to the standby's place. Killed anywhere, it goes on. */
export class RejoinDatabase implements Disposable {
  readonly #database: DatabaseToRejoin;
  readonly #context: RejoinContext;
  readonly #work: string;
  #fetched: PageSpool | undefined;

  constructor(database: DatabaseToRejoin, context: RejoinContext) {
    this.#database = database;
    this.#context = context;
    this.#work = workPlace(context.record, database.name);
  }

  /** @throws APPLICATION_RUNNING, NO_COMMON_STATE, STANDBY_WRITTEN, what the log and the repositories throw */
  async bring(): Promise<void> {
    const { name } = this.#database;
    const { record } = this.#context;
    while (record.now.placed[name] === undefined) {
      const at = this.#place();
      if (at === undefined) await this.#build();
      else await this.#bringOn(at);
    }
  }

  [Symbol.dispose](): void {
    this.#fetched?.close();
  }

  get #isInPlace(): boolean {
    return this.#database.source === this.#database.target;
  }

  /** Where it is just now. */
  #place(): string | undefined {
    const { name, source, target } = this.#database;
    const { record } = this.#context;
    if (!record.now.moved.includes(name)) {
      // A copy that was made halfway is void.
      if (fs.existsSync(source)) return source;
      if (!fs.existsSync(this.#work)) return undefined;
      this.#noteMoved();
    }
    return [this.#work, target].find((place) => fs.existsSync(place));
  }

  async #bringOn(at: string): Promise<void> {
    const { source, target, shipped } = this.#database;
    const { clock } = this.#context;
    requireClosed([at]);
    let pages = 0;
    {
      using former = await FormerDatabase.open({ path: at, known: shipped.index, clock });
      if (!former) throw notComparable(at);
      await this.#saveOnce(former);
      if (at !== source || this.#isInPlace) pages = await former.repair(await this.#pagesFor(former));
      else former.emptyWal();
    }
    crashPoint("rejoin: database repaired");
    if (at === source && !this.#isInPlace) return this.#move();
    if (at === this.#work) {
      requireClosed([at, target]);
      makeDirectory(path.dirname(target));
      // A WAL that stayed there would be taken for this one's.
      removeDatabase(target);
      fs.renameSync(at, target);
      syncDirectory(path.dirname(target));
      crashPoint("rejoin: database placed");
    }
    this.#notePlaced(pages);
  }

  #move(): void {
    const { source } = this.#database;
    makeDirectory(path.dirname(this.#work), { mode: 0o700 });
    removeDatabase(this.#work);
    moveDatabase(source, this.#work);
    crashPoint("rejoin: database moved");
    this.#noteMoved();
  }

  /** What was saved before is saved again when somebody wrote since. */
  async #saveOnce(former: FormerDatabase): Promise<void> {
    const { name, shipped } = this.#database;
    const { record, diverged, common } = this.#context;
    const checksum = hex(former.index.checksum);
    // What a repair that was killed left behind is not the application's.
    if (former.isAsKnown || record.now.saved[name]?.checksum === checksum) return;
    const found = divergenceOf(name, former, shipped);
    const pages = await this.#pagesFor(former);
    const saved = await saveDatabase(former, {
      found,
      pages,
      common,
      directory: path.join(diverged(), "databases"),
      scratch: record.directory,
    });
    crashPoint("rejoin: divergence saved");
    record.note({ saved: { ...record.now.saved, [name]: { found: saved, checksum } } });
  }

  /** From the log and the repositories, once. */
  async #pagesFor(former: FormerDatabase): Promise<PageSpool> {
    const { name, shipped } = this.#database;
    this.#fetched ??= new PageSpool(shipped.index.pageSize, this.#context.spool);
    const have = new Set(this.#fetched.pageNumbers());
    const wanted = former.wanted.filter((page) => !have.has(page));
    await this.#fetch(name, wanted, this.#fetched);
    const still = new Set(former.wanted);
    this.#fetched.filter((page) => still.has(page));
    return this.#fetched;
  }

  async #fetch(database: string, pageNumbers: readonly number[], spool: PageSpool): Promise<void> {
    const { common, signal } = this.#context;
    const { index } = this.#database.shipped;
    if (pageNumbers.length === 0) return;
    const wanted = { database, pageNumbers, index, through: common.offset, signal };
    const missing = await findPages(this.#context, wanted, spool);
    if (missing.length > 0) throw nowhere(database, missing);
  }

  /** Its file is gone: all of it comes from the log. */
  async #build(): Promise<void> {
    const { name, target, shipped } = this.#database;
    const { pageSize, sizePages } = shipped.index;
    const all = Array.from({ length: sizePages }, (_, i) => i + 1).filter((page) => page !== lockBytePage(pageSize));
    const pages = new PageSpool(pageSize, this.#context.spool);
    try {
      await this.#fetch(name, all, pages);
      makeDirectory(path.dirname(target));
      await buildDatabase(target, { pages, pageSize, sizePages });
    } finally {
      pages.close();
    }
    this.#notePlaced(all.length);
  }

  #noteMoved(): void {
    const { record } = this.#context;
    record.note({ moved: [...record.now.moved, this.#database.name] });
  }

  #notePlaced(pages: number): void {
    const { record } = this.#context;
    record.note({ placed: { ...record.now.placed, [this.#database.name]: pages } });
  }
}

/** Where a database is between the application's place and the standby's. */
export function workPlace({ directory }: RejoinRecord, name: string): string {
  return path.join(directory, "databases", encodeURIComponent(name));
}

export function divergenceOf(name: string, former: FormerDatabase, shipped: ShippedState): DivergedDatabase {
  const pages = former.differing.length;
  const commits = former.commitsAfter(shipped.position);
  return {
    name,
    pages,
    bytes: pages * former.known.pageSize,
    commits: commits?.count ?? null,
    atLeast: commits?.isAll === false,
    until: new Date(former.writtenMs).toISOString(),
    tables: null,
    schemaChanges: 0,
    file: null,
    copy: null,
    uncompared: [],
  };
}

function notComparable(file: string): TidemarkError {
  return new TidemarkError("NO_COMMON_STATE", `${file} has pages of another size than the log knows`, {
    hint: "`tidemark rejoin --force` keeps the old databases whole and has the standby built anew.",
  });
}

function nowhere(name: string, missing: readonly number[]): TidemarkError {
  return new TidemarkError(
    "NO_COMMON_STATE",
    `${name}: neither the log nor a repository holds ${pageList(missing)} as of the last common offset`,
    {
      hint: "Name the repository of the set in the configuration (repository:), or use --force: the old databases are kept whole, and the standby is built anew.",
    },
  );
}
