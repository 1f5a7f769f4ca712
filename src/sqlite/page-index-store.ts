import type Database from "better-sqlite3";

import { offset as toOffset, type Offset } from "../event/positions.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { pageHash, PageIndex } from "./page-index.ts";

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS page_index (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    page_size INTEGER NOT NULL,
    size_pages INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    seed_check TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS page_index_block (
    page_index INTEGER NOT NULL REFERENCES page_index (id) ON DELETE CASCADE,
    block INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (page_index, block)
  ) STRICT;`;

interface IndexRow {
  readonly id: number;
  readonly page_size: number;
  readonly size_pages: number;
  readonly offset: number;
  readonly checksum: string;
  readonly seed_check: string;
}

interface BlockRow {
  readonly block: number;
  readonly hashes: Uint8Array;
}

/**
 * Page indexes of several databases in one SQLite file, each with the offset it is exactly as new as.
 * Only blocks that changed are written. `save` and `remove` belong inside a transaction of the caller's; when that
 * is rolled back, call `rolledBack`, because the changed blocks count as saved.
 */
export class PageIndexStore {
  readonly #database: Database.Database;
  /** The index whose blocks the file holds: another instance (after a new copy) replaces all of them. */
  readonly #stored = new Map<string, PageIndex>();

  constructor(database: Database.Database) {
    this.#database = database;
    database.pragma("foreign_keys=ON");
    database.exec(SCHEMA);
  }

  /**
   * Undefined when there is none, or one of another seed (that is, of another log).
   * @throws INTEGRITY when the stored hashes do not add up to the stored checksum
   */
  load(name: string, seed: bigint): { index: PageIndex; offset: Offset } | undefined {
    const row = this.#row(name);
    if (!row || row.seed_check !== seedCheck(seed)) return undefined;
    const index = new PageIndex(row.page_size, seed);
    index.resize(row.size_pages);
    const blocks = this.#database
      .prepare<[number], BlockRow>("SELECT block, hashes FROM page_index_block WHERE page_index = ?")
      .iterate(row.id);
    for (const { block, hashes } of blocks) index.loadBlock(block, hashes);
    if (hex(index.checksum) !== row.checksum) throw damaged(this.#database.name, name);
    this.#stored.set(name, index);
    return { index, offset: toOffset(row.offset) };
  }

  save(name: string, index: PageIndex, offset: Offset): void {
    if (this.#stored.get(name) !== index) this.remove(name);
    // Before its blocks are taken: `rolledBack` must know whose they were when there is no room for all of them.
    this.#stored.set(name, index);
    const id = this.#database
      .prepare<unknown[], number>(
        `INSERT INTO page_index (name, page_size, size_pages, offset, checksum, seed_check) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET page_size = excluded.page_size, size_pages = excluded.size_pages,
           offset = excluded.offset, checksum = excluded.checksum, seed_check = excluded.seed_check
         RETURNING id`,
      )
      .pluck()
      .get(name, index.pageSize, index.sizePages, offset, hex(index.checksum), seedCheck(index.seed));
    const upsert = this.#database.prepare("INSERT OR REPLACE INTO page_index_block VALUES (?, ?, ?)");
    for (const { block, hashes } of index.takeDirtyBlocks()) upsert.run(id, block, Buffer.from(hashes.buffer));
  }

  /** What is stored is as new as `offset` too: nothing of this database came in between. */
  raise(name: string, offset: Offset): void {
    this.#database.prepare("UPDATE page_index SET offset = ? WHERE name = ?").run(offset, name);
  }

  remove(name: string): void {
    this.#stored.delete(name);
    this.#database.prepare("DELETE FROM page_index WHERE name = ?").run(name);
  }

  /** The transaction around one or more saves came to nothing: the next save writes every block. */
  rolledBack(): void {
    for (const index of this.#stored.values()) index.markAllDirty();
    this.#stored.clear();
  }

  /** What an index is exactly as new as, without loading it. */
  offsetOf(name: string): Offset | undefined {
    const row = this.#row(name);
    return row && toOffset(row.offset);
  }

  names(): string[] {
    return this.#database.prepare<[], string>("SELECT name FROM page_index ORDER BY name").pluck().all();
  }

  #row(name: string): IndexRow | undefined {
    return this.#database
      .prepare<[string], IndexRow>(
        "SELECT id, page_size, size_pages, offset, checksum, seed_check FROM page_index WHERE name = ?",
      )
      .get(name);
  }
}

function hex(value: bigint): string {
  return value.toString(16).padStart(16, "0");
}

/** Tells whether a stored index was made with a seed, without storing the seed. */
function seedCheck(seed: bigint): string {
  return hex(pageHash(seed, 0, new Uint8Array()));
}

function damaged(file: string, name: string): TidemarkError {
  return new TidemarkError("INTEGRITY", `the page index of ${name} in ${file} does not add up to its checksum`, {
    hint: "Its file was damaged. On a standby run `tidemark replica --reseed`; on a primary remove the state directory's index.",
  });
}
