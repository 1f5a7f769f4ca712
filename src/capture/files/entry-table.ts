import type Database from "better-sqlite3";

import { type ByteString, nameOf, parentPath, type TreePath } from "../../event/tree-path.ts";
import { type Entry, type EntryKind, inodeOf } from "./entry.ts";

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS tree (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
  CREATE TABLE IF NOT EXISTS entry (
    tree INTEGER NOT NULL,
    directory TEXT NOT NULL,
    name TEXT NOT NULL,
    kind INTEGER NOT NULL,
    stamp TEXT NOT NULL,
    size INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    file_group INTEGER NOT NULL,
    saying TEXT NOT NULL,
    PRIMARY KEY (tree, directory, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS entry_inode ON entry (inode) WHERE inode <> 0;`;

const KINDS: readonly EntryKind[] = ["file", "dir", "link"];
const FIELDS = "name, kind, stamp, size, file_group, saying";
/** Rows that are read at once while a directory is compared. */
const PAGE_ROWS = 1000;

type Row = readonly [name: string, kind: number, stamp: string, size: number, group: number, saying: string];

/**
 * What is stored of the entries of trees. Paths are kept as text with one character per byte, which SQLite orders as the
 * bytes are; the root is the nameless entry of its own directory.
 */
export class EntryTable {
  readonly #db: Database.Database;
  readonly #get: Database.Statement<[number, string, string], Row>;
  readonly #page: Database.Statement<[number, string, string, number], Row>;
  readonly #put: Database.Statement;
  readonly #remove: Database.Statement;
  readonly #removeIn: Database.Statement;
  readonly #removeBelow: Database.Statement;
  readonly #figures: Database.Statement<[number, string, string, string], [number, number | null]>;
  readonly #grouped: Database.Statement<[number, string, string, string], string>;
  readonly #ofInode: Database.Statement<[bigint, number], [string, string]>;

  constructor(db: Database.Database) {
    this.#db = db;
    db.exec(SCHEMA);
    const one = "tree = ? AND directory = ? AND name = ?";
    this.#get = db.prepare<[number, string, string], Row>(`SELECT ${FIELDS} FROM entry WHERE ${one}`).raw();
    this.#page = db
      .prepare<[number, string, string, number], Row>(
        `SELECT ${FIELDS} FROM entry WHERE tree = ? AND directory = ? AND name > ? ORDER BY name LIMIT ?`,
      )
      .raw();
    this.#put = db.prepare("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    this.#remove = db.prepare(`DELETE FROM entry WHERE ${one}`);
    this.#removeIn = db.prepare("DELETE FROM entry WHERE tree = ? AND directory = ?");
    this.#removeBelow = db.prepare("DELETE FROM entry WHERE tree = ? AND directory > ? AND directory < ?");
    this.#figures = db
      .prepare<[number, string, string, string], [number, number | null]>(
        `SELECT count(*), sum(size) FROM entry
         WHERE tree = ? AND (directory = ? OR (directory > ? AND directory < ?)) AND kind <> 1`,
      )
      .raw();
    this.#grouped = db
      .prepare<[number, string, string, string], string>(
        `SELECT stamp FROM entry
         WHERE tree = ? AND (directory = ? OR (directory > ? AND directory < ?)) AND file_group > 0`,
      )
      .pluck();
    this.#ofInode = db
      .prepare<[bigint, number], [string, string]>(
        "SELECT directory, name FROM entry WHERE inode = ? AND inode <> 0 AND tree = ?",
      )
      .raw();
  }

  treeId(name: string): number {
    const id = this.#db.prepare<[string], number>("SELECT id FROM tree WHERE name = ?").pluck().get(name);
    return id ?? Number(this.#db.prepare("INSERT INTO tree (name) VALUES (?)").run(name).lastInsertRowid);
  }

  get(tree: number, path: TreePath): Entry | undefined {
    const row = this.#get.get(tree, parentPath(path), nameOf(path));
    return row && entryOf(row);
  }

  /** What is in a directory, behind `after` in the order of bytes, at most a page of it. */
  page(tree: number, directory: TreePath, after: ByteString): readonly (readonly [ByteString, Entry])[] {
    return this.#page.all(tree, directory, after, PAGE_ROWS).map((row) => [row[0], entryOf(row)] as const);
  }

  put(tree: number, path: TreePath, entry: Entry): void {
    const { kind, stamp, size, group, saying } = entry;
    const key = [tree, parentPath(path), nameOf(path)];
    this.#put.run(...key, KINDS.indexOf(kind), stamp, size, BigInt.asIntN(64, inodeOf(entry)), group, saying);
  }

  /** And everything below it. */
  remove(tree: number, path: TreePath): void {
    this.#remove.run(tree, parentPath(path), nameOf(path));
    this.#removeIn.run(tree, path);
    this.#removeBelow.run(tree, ...rangeBelow(path));
  }

  pathsOfInode(tree: number, inode: bigint): TreePath[] {
    const rows = this.#ofInode.all(BigInt.asIntN(64, inode), tree);
    return rows.map(([directory, name]) => (directory === "" ? name : `${directory}/${name}`) as TreePath);
  }

  /** Files, links and their bytes below a directory. */
  figures(tree: number, directory: TreePath): { files: number; bytes: number } {
    const [files, bytes] = this.#figures.get(tree, directory, ...rangeBelow(directory)) ?? [0, 0];
    return { files, bytes: bytes ?? 0 };
  }

  /** The highest number that names of a file share. */
  lastGroup(tree: number): number {
    const last = this.#db.prepare<[number], number | null>("SELECT max(file_group) FROM entry WHERE tree = ?").pluck();
    return last.get(tree) ?? 0;
  }

  /** Of files below a directory that have several names. */
  stampsOfGrouped(tree: number, directory: TreePath): readonly string[] {
    return this.#grouped.all(tree, directory, ...rangeBelow(directory));
  }

  /** What the log says is not known any more. */
  forgetSayings(): void {
    this.#db.exec("UPDATE entry SET stamp = '', saying = ''");
  }

  clear(): void {
    this.#db.exec("DELETE FROM entry; DELETE FROM tree");
  }
}

function entryOf(row: Row): Entry {
  const [, kind, stamp, size, group, saying] = row;
  return { kind: KINDS[kind] ?? "file", stamp, size, group, saying };
}

/** Between these are the paths of the directories below one: "0" comes right after "/". */
function rangeBelow(directory: TreePath): [string, string] {
  return directory === "" ? ["", "\u{10ffff}"] : [`${directory}/`, `${directory}0`];
}
