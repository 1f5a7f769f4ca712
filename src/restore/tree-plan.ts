import Database from "better-sqlite3";

import { type Offset, offset } from "../event/positions.ts";
import type { TreePath } from "../tree/tree-path.ts";

/** Contents take whole blocks of the disk, and each name something besides. */
const BLOCK_BYTES = 4096;
const NAME_BYTES = 512;
/** Items are fetched so many at a time: an open cursor would keep the connection from doing anything else. */
const FETCH = 1000;

export type ItemKind = "file" | "dir" | "link";

/** Something of a tree that is brought back. */
export interface TreeItem {
  /** Above that of the directory it lies in. */
  readonly number: number;
  readonly tree: string;
  readonly path: TreePath;
  readonly kind: ItemKind;
  /** Number of the file that it is another name of. */
  readonly twin: number | null;
}

/** Where a piece of content goes that a record of the log carries. */
export interface Place {
  readonly item: number;
  /** In the file. */
  readonly position: number;
  readonly bytes: number;
}

export type NewItem = Omit<TreeItem, "number"> & { readonly bytes: number };

const SCHEMA = `
  CREATE TABLE item (
    number INTEGER PRIMARY KEY, tree TEXT NOT NULL, path BLOB NOT NULL, kind TEXT NOT NULL, twin INTEGER,
    UNIQUE (tree, path)) STRICT;
  CREATE TABLE place (offset INTEGER NOT NULL, item INTEGER NOT NULL, position INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
  CREATE INDEX place_offset ON place (offset);
`;

/**
 * What is brought back of trees, and which record of the log carries which piece of it. In a file of SQLite's, so that
 * memory does not grow with the number of files.
 */
export class TreePlan implements Disposable {
  readonly #database: Database.Database;
  readonly #insertItem;
  readonly #insertPlace;
  readonly #numberOf;
  readonly #places;
  #count = 0;
  #bytes = 0;
  #diskBytes = 0;

  /** `file` "": one of SQLite's own, for as long as this lives. */
  constructor(file: string) {
    this.#database = new Database(file);
    // Nobody reads it after a crash.
    this.#database.pragma("journal_mode=OFF");
    this.#database.pragma("synchronous=OFF");
    this.#database.exec(SCHEMA);
    this.#database.exec("BEGIN");
    this.#insertItem = this.#database.prepare<[string, Buffer, ItemKind, number | null]>(
      "INSERT INTO item (tree, path, kind, twin) VALUES (?, ?, ?, ?)",
    );
    this.#insertPlace = this.#database.prepare<[number, number, number, number]>(
      "INSERT INTO place (offset, item, position, bytes) VALUES (?, ?, ?, ?)",
    );
    this.#numberOf = this.#database
      .prepare<[string, Buffer], number>("SELECT number FROM item WHERE tree = ? AND path = ?")
      .pluck();
    this.#places = this.#database.prepare<[number], Place>("SELECT item, position, bytes FROM place WHERE offset = ?");
  }

  /** Files, each name of one counted. */
  get count(): number {
    return this.#count;
  }

  /** Of all files, each name of one counted. */
  get bytes(): number {
    return this.#bytes;
  }

  /** On disk, about. */
  get diskBytes(): number {
    return this.#diskBytes;
  }

  /** Records that are needed lie after this one; undefined when none is. */
  get afterOffset(): Offset | undefined {
    const first = this.#database.prepare<[], number | null>("SELECT min(offset) FROM place").pluck().get();
    return first === null || first === undefined ? undefined : offset(first - 1);
  }

  add({ tree, path, kind, twin, bytes }: NewItem): number {
    if (kind === "file") {
      this.#count += 1;
      this.#bytes += bytes;
    }
    const contentBytes = twin === null ? Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES : 0;
    this.#diskBytes += NAME_BYTES + (kind === "dir" ? BLOCK_BYTES : contentBytes);
    return Number(this.#insertItem.run(tree, Buffer.from(path, "latin1"), kind, twin).lastInsertRowid);
  }

  addPlace(at: Offset, { item, position, bytes }: Place): void {
    this.#insertPlace.run(at, item, position, bytes);
  }

  numberOf(tree: string, path: TreePath): number | undefined {
    return this.#numberOf.get(tree, Buffer.from(path, "latin1"));
  }

  /** Where the content goes that the record at `at` carries. */
  placesOf(at: Offset): Place[] {
    return this.#places.all(at);
  }

  /** A directory before what is in it; with `reverse` after it. */
  *items({ reverse = false } = {}): Generator<TreeItem> {
    const fetch = this.#database.prepare<[number], TreeItem & { readonly path: Buffer }>(
      reverse
        ? `SELECT * FROM item WHERE number < ? ORDER BY number DESC LIMIT ${FETCH}`
        : `SELECT * FROM item WHERE number > ? ORDER BY number LIMIT ${FETCH}`,
    );
    let last = reverse ? Number.MAX_SAFE_INTEGER : 0;
    for (;;) {
      const rows = fetch.all(last);
      for (const row of rows) yield itemOf(row);
      if (rows.length < FETCH) return;
      last = rows.at(-1)?.number ?? last;
    }
  }

  item(number: number): TreeItem | undefined {
    const row = this.#database.prepare<[number], TreeItem & { readonly path: Buffer }>(
      "SELECT * FROM item WHERE number = ?",
    ).get(number);
    return row && itemOf(row);
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}

/** The rows hold the path as bytes. */
function itemOf(row: Omit<TreeItem, "path"> & { readonly path: Buffer }): TreeItem {
  return { ...row, path: row.path.toString("latin1") as TreePath };
}
