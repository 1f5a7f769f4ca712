import type Database from "better-sqlite3";

import { type Offset, offset } from "../event/positions.ts";
import { bytesOf, byteString, type TreePath } from "../event/tree-path.ts";

/** Contents take whole blocks of the disk, and each name something besides. */
const BLOCK_BYTES = 4096;
const NAME_BYTES = 512;
import { invariant } from "../runtime/invariant.ts";
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

/** What carries a piece of content: a record of the log, or a blob of a repository. */
export type ContentSource = { readonly offset: Offset } | { readonly blob: Buffer };

/** Where a piece of content goes. */
export interface Place {
  readonly item: number;
  /** In the file. */
  readonly position: number;
  readonly bytes: number;
}

export type NewItem = Omit<TreeItem, "number"> & { readonly bytes: number };

/** What comes back of a tree. */
export interface TreeSummary {
  readonly name: string;
  /** Each name of a file counted. */
  readonly files: number;
  readonly directories: number;
  readonly links: number;
  readonly bytes: number;
}

const SCHEMA = `
  CREATE TABLE item (
    number INTEGER PRIMARY KEY, tree TEXT NOT NULL, path BLOB NOT NULL, kind TEXT NOT NULL, twin INTEGER, bytes INTEGER NOT NULL,
    UNIQUE (tree, path)) STRICT;
  CREATE TABLE place (offset INTEGER, blob BLOB, item INTEGER NOT NULL, position INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
  CREATE INDEX place_offset ON place (offset) WHERE offset IS NOT NULL;
  CREATE INDEX place_blob ON place (blob) WHERE blob IS NOT NULL;
`;

type ItemRow = Omit<TreeItem, "path"> & { readonly path: Buffer };

/**
 * What is brought back of trees, and what carries which piece of it. In a database of SQLite's, so that
 * memory does not grow with the number of files.
 */
export class TreePlan {
  readonly #database: Database.Database;
  readonly #insertItem;
  readonly #insertPlace;
  readonly #numberOf;
  readonly #places;
  readonly #placesOfBlob;
  readonly #one;

  constructor(database: Database.Database) {
    this.#database = database;
    database.exec(SCHEMA);
    this.#insertItem = database.prepare<[string, Buffer, ItemKind, number | null, number]>(
      "INSERT INTO item (tree, path, kind, twin, bytes) VALUES (?, ?, ?, ?, ?)",
    );
    this.#insertPlace = database.prepare<[number | null, Buffer | null, number, number, number]>(
      "INSERT INTO place (offset, blob, item, position, bytes) VALUES (?, ?, ?, ?, ?)",
    );
    this.#numberOf = database
      .prepare<[string, Buffer], number>("SELECT number FROM item WHERE tree = ? AND path = ?")
      .pluck();
    this.#places = database.prepare<[number], Place>("SELECT item, position, bytes FROM place WHERE offset = ?");
    this.#placesOfBlob = database.prepare<[Buffer], Place>("SELECT item, position, bytes FROM place WHERE blob = ?");
    this.#one = database.prepare<[number], ItemRow>("SELECT number, tree, path, kind, twin FROM item WHERE number = ?");
  }

  summary(): TreeSummary[] {
    return this.#database
      .prepare<[], TreeSummary>(
        `SELECT tree AS name, sum(kind = 'file') AS files, sum(kind = 'dir') AS directories, sum(kind = 'link') AS links,
          sum(bytes) AS bytes FROM item GROUP BY tree ORDER BY tree`,
      )
      .all();
  }

  /** Of files, each content counted once. */
  contentBytes(): number {
    return this.#sum("CASE WHEN twin IS NULL THEN bytes ELSE 0 END");
  }

  /** Of the blobs that are needed, each counted once. */
  blobBytes(): number {
    const sum = "SELECT coalesce(sum(bytes), 0) FROM (SELECT bytes FROM place WHERE blob IS NOT NULL GROUP BY blob)";
    return this.#database.prepare<[], number>(sum).pluck().get() ?? 0;
  }

  /** On disk, about. */
  diskBytes(): number {
    return this.#sum(
      `${NAME_BYTES} + CASE WHEN kind = 'dir' THEN ${BLOCK_BYTES}
        WHEN twin IS NULL THEN (bytes + ${BLOCK_BYTES - 1}) / ${BLOCK_BYTES} * ${BLOCK_BYTES} ELSE 0 END`,
    );
  }

  /** Records that are needed lie after this one; undefined when none is. */
  afterOffset(): Offset | undefined {
    const first = this.#database.prepare<[], number | null>("SELECT min(offset) FROM place").pluck().get();
    return first === null || first === undefined ? undefined : offset(first - 1);
  }

  /** @returns its number */
  add({ tree, path, kind, twin, bytes }: NewItem): number {
    return Number(this.#insertItem.run(tree, bytesOf(path), kind, twin, bytes).lastInsertRowid);
  }

  addPlace(source: ContentSource, { item, position, bytes }: Place): void {
    const [at, blob] = "offset" in source ? [source.offset, null] : [null, source.blob];
    this.#insertPlace.run(at, blob, item, position, bytes);
  }

  has(tree: string, path: TreePath): boolean {
    return this.#numberOf.get(tree, bytesOf(path)) !== undefined;
  }

  /** Where the content goes that the record at `at` carries. */
  placesOf(at: Offset): Place[] {
    return this.#places.all(at);
  }

  placesOfBlob(blob: Buffer): Place[] {
    return this.#placesOfBlob.all(blob);
  }

  /** Each once, in the order in which the files need them: so they mostly lie in a repository, too. */
  *blobs(): Generator<Buffer> {
    const next = this.#database.prepare<[number], { blob: Buffer; row: number }>(
      `SELECT blob, rowid AS row FROM place AS one WHERE blob IS NOT NULL AND rowid > ?
         AND rowid = (SELECT min(rowid) FROM place WHERE blob = one.blob) ORDER BY rowid LIMIT ${FETCH}`,
    );
    for (let last: number | undefined = 0; last !== undefined;) {
      const rows = next.all(last);
      for (const { blob } of rows) yield blob;
      last = rows.at(-1)?.row;
    }
  }

  item(number: number): TreeItem {
    const row = this.#one.get(number);
    invariant(row, `there is no item ${number} in the plan`);
    return itemOf(row);
  }

  /** A directory before what is in it. */
  *items(kind: ItemKind): Generator<TreeItem> {
    const next = this.#database.prepare<[ItemKind, number], ItemRow>(
      `SELECT number, tree, path, kind, twin FROM item WHERE kind = ? AND number > ? ORDER BY number LIMIT ${FETCH}`,
    );
    for (let last: number | undefined = 0; last !== undefined;) {
      const rows = next.all(kind, last);
      for (const row of rows) yield itemOf(row);
      last = rows.at(-1)?.number;
    }
  }

  /** A directory after those in it. */
  *directoriesInnermostFirst(): Generator<TreeItem> {
    const next = this.#database.prepare<[number], ItemRow>(
      `SELECT number, tree, path, kind, twin FROM item WHERE kind = 'dir' AND number < ? ORDER BY number DESC LIMIT ${FETCH}`,
    );
    for (let last: number | undefined = Number.MAX_SAFE_INTEGER; last !== undefined;) {
      const rows = next.all(last);
      for (const row of rows) yield itemOf(row);
      last = rows.at(-1)?.number;
    }
  }

  #sum(expression: string): number {
    return this.#database.prepare<[], number>(`SELECT coalesce(sum(${expression}), 0) FROM item`).pluck().get() ?? 0;
  }
}

function itemOf(row: ItemRow): TreeItem {
  return { ...row, path: byteString(row.path) as TreePath };
}
