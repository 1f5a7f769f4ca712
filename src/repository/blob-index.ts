import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

import { makeDirectory } from "../runtime/durable-directory.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import type { BlobFigures } from "./blob-store.ts";
import { BlobUse } from "./blob-use.ts";
import type { PackedBlob, PackListing } from "./pack.ts";
import type { BlobType } from "./sealer.ts";

const FORMAT_VERSION = 2;

/**
 * source: an index object, or a note in expired/, that was read. listing: which index object names which pack. loss: how
 * often something was marked, or went.
 */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS source (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS pack (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, bytes INTEGER NOT NULL, blobs INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS listing (
    source TEXT NOT NULL, pack INTEGER NOT NULL, healed INTEGER NOT NULL, PRIMARY KEY (source, pack)) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS listing_pack ON listing (pack);
  CREATE TABLE IF NOT EXISTS blob (
    id BLOB NOT NULL, pack INTEGER NOT NULL, type TEXT NOT NULL, position INTEGER NOT NULL, stored INTEGER NOT NULL,
    raw INTEGER NOT NULL, PRIMARY KEY (id, pack)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS marked (name TEXT NOT NULL, source TEXT NOT NULL, PRIMARY KEY (name, source)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS loss (id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL) STRICT;
  INSERT OR IGNORE INTO loss VALUES (1, 0);
`;
/** Another process of ours may be writing; it is done within milliseconds. */
const BUSY_TIMEOUT_MS = 5000;

/** Where a blob lies. */
export interface BlobLocation extends PackedBlob {
  readonly pack: string;
}

/**
 * `<cache>/<repository>.db`: what index/ and expired/ of a repository say, so that memory does not grow with the number of
 * blobs. Nothing but a memory: each source is in it whole or not at all, and when it is missing or damaged it is made
 * anew from the repository.
 */
export class BlobIndex implements Disposable {
  readonly #file: string;
  #database: Database.Database;
  // `+?` in what is asked for each blob: SQLite parses a statement anew for each value that might change its plan.
  #locate: Database.Statement<[Uint8Array], Row> | undefined;
  #has: Database.Statement<[Uint8Array]> | undefined;

  constructor(cacheDirectory: string, repositoryId: string) {
    makeDirectory(cacheDirectory, { mode: 0o700 });
    this.#file = path.join(cacheDirectory, `${repositoryId}.db`);
    try {
      this.#database = openIndex(this.#file);
    } catch (error) {
      if (!isDamage(error)) throw error;
      removeIndex(this.#file);
      this.#database = openIndex(this.#file);
    }
  }

  /** Names of the index objects and notes that are in it. */
  sources(prefix: string): Set<string> {
    return this.#guarded((database) => {
      const names = database.prepare<[string], string>("SELECT name FROM source WHERE name GLOB ? || '*'").pluck();
      return new Set(names.all(prefix));
    });
  }

  /** `healed`: the listings come from the packs themselves, as their index object is damaged. */
  addIndex(source: string, packs: readonly PackListing[], { healed = false } = {}): void {
    this.#write((database) => {
      if (!addSource(database, source)) return;
      const list = database.prepare("INSERT OR IGNORE INTO listing VALUES (?, ?, ?)");
      for (const pack of packs) list.run(source, addPack(database, pack), healed ? 1 : 0);
    });
  }

  /** That these objects are marked for deletion; "*": that any may be. */
  addMarks(source: string, names: readonly string[]): void {
    this.#write((database) => {
      if (!addSource(database, source)) return;
      const mark = database.prepare("INSERT OR IGNORE INTO marked VALUES (?, ?)");
      for (const name of names) mark.run(name, source);
      countLoss(database);
    });
  }

  /** Names of objects with this prefix that are marked; what a damaged mark may have named is not among them. */
  marked(prefix: string): Set<string> {
    return this.#guarded((database) => {
      const names = database.prepare<[string], string>("SELECT name FROM marked WHERE name GLOB ? || '*'").pluck();
      return new Set(names.all(prefix));
    });
  }

  /** Another number than before: what was found by `has` since may be on its way out. */
  losses(): number {
    return this.#guarded((database) => database.prepare<[], number>("SELECT count FROM loss").pluck().get() ?? 0);
  }

  /** Learns what packs are needed for. It must be disposed of before the next one is made. */
  use(): BlobUse {
    return this.#guarded((database) => new BlobUse(database));
  }

  /** They are in the repository no more. */
  drop(sources: readonly string[]): void {
    if (sources.length === 0) return;
    this.#write((database) => {
      for (const table of ["listing", "marked"]) {
        const remove = database.prepare(`DELETE FROM ${table} WHERE source = ?`);
        for (const source of sources) remove.run(source);
      }
      const forget = database.prepare("DELETE FROM source WHERE name = ?");
      for (const source of sources) forget.run(source);
      const gone = database.prepare("DELETE FROM pack WHERE id NOT IN (SELECT pack FROM listing)").run().changes;
      if (gone === 0) return;
      database.exec("DELETE FROM blob WHERE pack NOT IN (SELECT id FROM pack)");
      countLoss(database);
    });
  }

  /** Whether it may be referred to: in a pack that an index object names and that is not marked. */
  has(id: Uint8Array): boolean {
    return this.#guarded((database) => {
      this.#has ??= database.prepare<[Uint8Array]>(
        `SELECT 1 FROM blob JOIN pack ON pack.id = blob.pack WHERE blob.id = +?
          AND NOT EXISTS (SELECT 1 FROM marked WHERE marked.name IN (pack.name, '*')) AND pack IN (SELECT pack FROM listing WHERE healed = 0 AND listing.pack = blob.pack)`,
      );
      return this.#has.get(id) !== undefined;
    });
  }

  hasPack(name: string): boolean {
    return this.#guarded((database) => database.prepare("SELECT 1 FROM pack WHERE name = ?").get(name) !== undefined);
  }

  /** Those in packs that stay come first. */
  locations(id: Uint8Array): BlobLocation[] {
    return this.#guarded((database) => {
      this.#locate ??= database.prepare<[Uint8Array], Row>(
        "SELECT name, type, position, stored, raw FROM blob JOIN pack ON pack.id = blob.pack WHERE blob.id = +? ORDER BY pack",
      );
      const found = this.#locate.all(id);
      const rows = found.length > 1 ? unmarkedFirst(database, found) : found;
      return rows.map(({ name, type, position, stored, raw }) => {
        return { id, pack: name, type, position, storedBytes: stored, rawBytes: raw };
      });
    });
  }

  figures(): BlobFigures {
    return this.#guarded((database) => {
      const row = database
        .prepare<[], BlobFigures>(
          "SELECT count(*) AS packs, coalesce(sum(blobs), 0) AS blobs, coalesce(sum(bytes), 0) AS bytes FROM pack",
        )
        .get();
      return row ?? { packs: 0, blobs: 0, bytes: 0 };
    });
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  #write(work: (database: Database.Database) => void): void {
    this.#guarded((database) => database.transaction(() => work(database)).immediate());
  }

  /** One that turns out to be damaged is begun anew; whoever asked tries again, after a refresh. */
  #guarded<T>(work: (database: Database.Database) => T): T {
    try {
      return work(this.#database);
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#locate = undefined;
      this.#has = undefined;
      this.#database.close();
      removeIndex(this.#file);
      this.#database = openIndex(this.#file);
      throw new TidemarkError("IO", `the cache ${this.#file} was damaged and is begun anew`, {
        hint: "Nothing is lost: it is made from the repository again. Look at the disk.",
        cause: error,
      });
    }
  }
}

interface Row {
  readonly name: string;
  readonly type: BlobType;
  readonly position: number;
  readonly stored: number;
  readonly raw: number;
}

function unmarkedFirst(database: Database.Database, rows: readonly Row[]): readonly Row[] {
  const marked = new Set(database.prepare<[], string>("SELECT name FROM marked").pluck().all());
  return rows.toSorted((a, b) => Number(marked.has(a.name)) - Number(marked.has(b.name)));
}

function countLoss(database: Database.Database): void {
  database.exec("UPDATE loss SET count = count + 1");
}

/** False when it is there already: another process was faster. */
function addSource(database: Database.Database, name: string): boolean {
  return database.prepare("INSERT OR IGNORE INTO source VALUES (?)").run(name).changes === 1;
}

/** Its number. */
function addPack(database: Database.Database, { name, bytes, blobs }: PackListing): number {
  database.prepare("INSERT OR IGNORE INTO pack (name, bytes, blobs) VALUES (?, ?, ?)").run(name, bytes, blobs.length);
  const pack = database.prepare<[string], number>("SELECT id FROM pack WHERE name = ?").pluck().get(name) ?? 0;
  const put = database.prepare("INSERT OR IGNORE INTO blob VALUES (?, ?, ?, ?, ?, ?)");
  for (const { id, type, position, storedBytes, rawBytes } of blobs)
    put.run(id, pack, type, position, storedBytes, rawBytes);
  return pack;
}

function openIndex(file: string): Database.Database {
  const database = new Database(file, { timeout: BUSY_TIMEOUT_MS });
  try {
    database.pragma("journal_mode=WAL");
    database.pragma("synchronous=NORMAL");
    database.pragma("cache_size=-4096");
    const version = database.pragma("user_version", { simple: true });
    if (version !== 0 && version !== FORMAT_VERSION) throw new OtherFormat();
    database.exec(SCHEMA);
    database.pragma(`user_version=${FORMAT_VERSION}`);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

class OtherFormat extends Error {}

function isDamage(error: unknown): boolean {
  return (
    error instanceof OtherFormat || /^SQLITE_(CORRUPT|NOTADB|CONSTRAINT|ERROR|MISMATCH)/.test(errnoOf(error) ?? "")
  );
}

function removeIndex(file: string): void {
  for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(file + suffix, { force: true });
}
