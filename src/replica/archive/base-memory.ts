import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

import { offset as toOffset, type Offset } from "../../event/positions.ts";
import { makeDirectory } from "../../runtime/durable-directory.ts";
import { STATE_DIRECTORY } from "../standby-paths.ts";

const FORMAT_VERSION = "1";

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS database (
    name TEXT PRIMARY KEY, offset INTEGER NOT NULL, page_size INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS block (
    database TEXT NOT NULL, block INTEGER NOT NULL, hashes BLOB NOT NULL, id BLOB NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (database, block)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS list (id BLOB PRIMARY KEY, used INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS fresh (id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
`;

/** A table block as the last base of the repository has it. */
export interface RememberedBlock {
  /** Of its pages. */
  readonly hashes: BigUint64Array;
  /** Name of the blob, and what is in it. */
  readonly id: Uint8Array;
  readonly content: Uint8Array;
}

export interface BaseMemoryOptions {
  /** Root of the standby. */
  readonly standby: string;
  readonly repositoryId: string;
  /** What is remembered of another log, or under another seed, is forgotten. */
  readonly logId: string;
}

/**
 * `<standby>/.tidemark/bases/<repository>.db`: what the last base of this standby in one repository says of each page, so
 * that the next one reads only what changed. Nothing but a memory: when it is missing, damaged or old, more is read, and
 * nothing else is different. Changes are kept with `keep`, after the base is durable.
 */
export class BaseMemory implements Disposable {
  readonly #database: Database.Database;

  static open(options: BaseMemoryOptions): BaseMemory {
    const directory = path.join(options.standby, STATE_DIRECTORY, "bases");
    makeDirectory(directory, { mode: 0o700 });
    const file = path.join(directory, `${options.repositoryId}.db`);
    try {
      return new BaseMemory(file, options.logId);
    } catch {
      for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(file + suffix, { force: true });
      return new BaseMemory(file, options.logId);
    }
  }

  private constructor(file: string, logId: string) {
    this.#database = new Database(file, { timeout: 0 });
    try {
      this.#database.pragma("journal_mode=WAL");
      this.#database.pragma("synchronous=NORMAL");
      this.#database.pragma("cache_size=-2048");
      this.#database.exec(SCHEMA);
      this.#database.exec("BEGIN IMMEDIATE");
      const known = this.#get("format") === FORMAT_VERSION && this.#get("log_id") === logId;
      if (!known) this.#forgetAll();
      this.#set("format", FORMAT_VERSION);
      this.#set("log_id", logId);
      this.#database.exec("COMMIT; BEGIN IMMEDIATE");
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** Last commit event of each database in the base. */
  offsets(): Map<string, Offset> {
    const rows = this.#database
      .prepare<[], { name: string; offset: number }>("SELECT name, offset FROM database")
      .all();
    return new Map(rows.map(({ name, offset }) => [name, toOffset(offset)]));
  }

  /** Undefined when it is not known, or has pages of another size. */
  block(name: string, block: number, pageSize: number): RememberedBlock | undefined {
    const row = this.#database
      .prepare<[string, number, number], { hashes: Uint8Array; id: Uint8Array; content: Uint8Array }>(
        `SELECT hashes, id, content FROM block JOIN database ON name = database
          WHERE name = ? AND block = ? AND page_size = ?`,
      )
      .get(name, block, pageSize);
    if (!row) return undefined;
    return { ...row, hashes: new BigUint64Array(Uint8Array.from(row.hashes).buffer) };
  }

  /** Names of the blobs of all blocks, in order. */
  tables(name: string): Uint8Array[] {
    return this.#database
      .prepare<[string], Uint8Array>("SELECT id FROM block WHERE database = ? ORDER BY block")
      .pluck()
      .all(name);
  }

  /** One after the other: there may be a lot of them. */
  *blocks(name: string): Generator<Pick<RememberedBlock, "id" | "content">> {
    const read = this.#database.prepare<[string, number], { id: Uint8Array; content: Uint8Array }>(
      "SELECT id, content FROM block WHERE database = ? AND block = ?",
    );
    for (let block = 0; ; block += 1) {
      const found = read.get(name, block);
      if (!found) return;
      yield found;
    }
  }

  putBlock(name: string, block: number, { hashes, id, content }: RememberedBlock): void {
    const bytes = Buffer.from(hashes.buffer, hashes.byteOffset, hashes.byteLength);
    this.#database.prepare("INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?, ?)").run(name, block, bytes, id, content);
  }

  /** All of its blocks were put. */
  putDatabase(
    name: string,
    known: { readonly offset: Offset; readonly pageSize: number; readonly blocks: number },
  ): void {
    this.#database.prepare("INSERT OR REPLACE INTO database VALUES (?, ?, ?)").run(name, known.offset, known.pageSize);
    this.#database.prepare("DELETE FROM block WHERE database = ? AND block >= ?").run(name, known.blocks);
  }

  /** A list of entries that this base names. Returns whether the last one did too. */
  usesList(id: Uint8Array): boolean {
    const known = this.#database.prepare<[Uint8Array]>("UPDATE list SET used = 1 WHERE id = ?").run(id).changes > 0;
    if (!known) this.#database.prepare("INSERT INTO list VALUES (?, 1)").run(id);
    return known;
  }

  /** A blob that was stored for this base, to be read back. */
  stored(id: Uint8Array): void {
    this.#database.prepare("INSERT OR IGNORE INTO fresh VALUES (?)").run(id);
  }

  /** Names of the blobs that were `stored`. */
  *fresh(): Generator<Uint8Array> {
    const read = this.#database
      .prepare<[Uint8Array], Uint8Array>("SELECT id FROM fresh WHERE id > ? ORDER BY id LIMIT 1")
      .pluck();
    for (let id = read.get(new Uint8Array()); id; id = read.get(id)) yield id;
  }

  /** After the base is durable. */
  keep(): void {
    this.#database.exec(
      "DELETE FROM fresh; DELETE FROM list WHERE used = 0; UPDATE list SET used = 0; COMMIT; BEGIN IMMEDIATE",
    );
  }

  /** What was put since the last `keep` came to nothing. */
  drop(): void {
    this.#database.exec("ROLLBACK; BEGIN IMMEDIATE");
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  #forgetAll(): void {
    this.#database.exec(
      "DELETE FROM meta; DELETE FROM database; DELETE FROM block; DELETE FROM list; DELETE FROM fresh",
    );
  }

  #get(key: string): string | undefined {
    return this.#database.prepare<[string], string>("SELECT value FROM meta WHERE key = ?").pluck().get(key);
  }

  #set(key: string, value: string): void {
    this.#database.prepare("INSERT OR REPLACE INTO meta VALUES (?, ?)").run(key, value);
  }
}
