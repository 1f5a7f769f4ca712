import path from "node:path";

import Database from "better-sqlite3";

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS block (database TEXT NOT NULL, block INTEGER NOT NULL, PRIMARY KEY (database, block)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS hashes (
    database TEXT NOT NULL, piece INTEGER NOT NULL, hashes BLOB NOT NULL, PRIMARY KEY (database, piece)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS contents (blobs INTEGER NOT NULL) STRICT;
`;

/** Hashes of pages, as PageIndex.takeDirtyBlocks gives them. */
export interface PageHashes {
  readonly block: number;
  readonly hashes: Uint8Array;
}

/**
 * What of a base a restore has fetched and written, so that the next one goes on there when this one is killed. It
 * outlives the process, not the machine: the files it tells of are only synced at the end.
 */
export class FetchedState implements Disposable {
  readonly #database: Database.Database;

  constructor(directory: string) {
    this.#database = new Database(path.join(directory, "fetched.db"));
    this.#database.pragma("journal_mode=WAL");
    this.#database.pragma("synchronous=OFF");
    this.#database.exec(SCHEMA);
  }

  hasBlock(database: string, block: number): boolean {
    const found = this.#database.prepare("SELECT 1 FROM block WHERE database = ? AND block = ?").get(database, block);
    return found !== undefined;
  }

  /** Its pages are in the file. */
  saveBlock(database: string, block: number, pieces: readonly PageHashes[]): void {
    const put = this.#database.prepare("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)");
    this.#database.transaction(() => {
      for (const { block: piece, hashes } of pieces) put.run(database, piece, hashes);
      this.#database.prepare("INSERT INTO block VALUES (?, ?)").run(database, block);
    })();
  }

  /** What was fetched of this database is not what it should be. */
  forget(database: string): void {
    this.#database.transaction(() => {
      for (const table of ["block", "hashes"])
        this.#database.prepare(`DELETE FROM ${table} WHERE database = ?`).run(database);
    })();
  }

  /** Of the pages that were written. */
  *pageHashes(database: string): Generator<PageHashes> {
    const rows = this.#database.prepare<[string], PageHashes>(
      "SELECT piece AS block, hashes FROM hashes WHERE database = ? ORDER BY piece",
    );
    yield* rows.iterate(database);
  }

  /** So many contents of files, in the order of the plan, are written. */
  get contents(): number {
    return this.#database.prepare<[], number>("SELECT blobs FROM contents").pluck().get() ?? 0;
  }

  set contents(blobs: number) {
    this.#database.transaction(() => {
      this.#database.exec("DELETE FROM contents");
      this.#database.prepare("INSERT INTO contents VALUES (?)").run(blobs);
    })();
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}
