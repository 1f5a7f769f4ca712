import type Database from "better-sqlite3";

import { type Chunk, chunksOf, contentName } from "../event/chunk-list.ts";
import type { FilePut, LogEvent, PathMetadata, TreeEvent } from "../event/kinds.ts";
import { type Offset, offset as toOffset } from "../event/positions.ts";
import {
  type ByteString,
  bytesOf,
  byteString,
  parentPath,
  shownPath,
  TREE_ROOT,
  type TreePath,
} from "../event/tree-path.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { packXattrs, unpackXattrs } from "./xattr-codec.ts";

interface EntryPlace {
  readonly tree: string;
  readonly path: TreePath;
  /** Of the record that says so. */
  readonly offset: Offset;
}

export interface FileEntry extends EntryPlace {
  readonly kind: "file";
  readonly metadata: PathMetadata;
  readonly size: number;
  /** SHA-256 of the content. */
  readonly hash: Uint8Array;
  readonly group: number | undefined;
  /** See event/chunk-list.ts. */
  readonly chunkList: Uint8Array;
}

export interface DirectoryEntry extends EntryPlace {
  readonly kind: "dir";
  readonly metadata: PathMetadata;
}

export interface LinkEntry extends EntryPlace {
  readonly kind: "link";
  readonly target: ByteString;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
}

export type TreeEntry = FileEntry | DirectoryEntry | LinkEntry;

/** The chunks of a file, in the order of its content. */
export function chunksOfEntry({ chunkList }: FileEntry): Iterable<Chunk> {
  return chunksOf(chunkList);
}

interface Row {
  readonly tree: string;
  readonly path: Buffer;
  readonly offset: bigint;
  readonly kind: "file" | "dir" | "link";
  readonly mode: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly mtime_ns: bigint;
  readonly xattrs: Buffer | null;
  readonly size: bigint | null;
  readonly hash: Buffer | null;
  readonly chunks: Buffer | null;
  readonly link_group: bigint | null;
  readonly target: Buffer | null;
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS entry (
    tree TEXT NOT NULL, path BLOB NOT NULL, offset INTEGER NOT NULL, kind TEXT NOT NULL,
    mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, xattrs BLOB,
    size INTEGER, hash BLOB, chunks BLOB, link_group INTEGER, target BLOB,
    PRIMARY KEY (tree, path)) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS entry_group ON entry (tree, link_group) WHERE link_group IS NOT NULL;
  CREATE TABLE IF NOT EXISTS content (id BLOB PRIMARY KEY, offset INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS part (
    tree TEXT NOT NULL, put INTEGER NOT NULL, sequence INTEGER NOT NULL, chunks BLOB NOT NULL,
    PRIMARY KEY (tree, put, sequence)) STRICT, WITHOUT ROWID;
`;
/** No name is as long as this. */
const BEHIND_ALL = Buffer.alloc(256, 0xff);
/** Entries are fetched so many at a time: an open cursor would keep the connection from doing anything else. */
const FETCH = 500;

/**
 * What the trees of a set look like at an offset, by the log's events, and which record carries which content. In a
 * database of SQLite's: memory does not grow with the number of files. Transactions are the caller's.
 */
export class TreeIndex {
  readonly #database: Database.Database;
  readonly #put;
  readonly #one;
  readonly #after;
  readonly #remove;
  readonly #removeUnder;
  readonly #putContent;
  readonly #contentAt;
  readonly #putPart;
  readonly #parts;
  readonly #dropParts;
  readonly #kindAt;
  readonly #putGroup;
  readonly #members;

  constructor(database: Database.Database) {
    this.#database = database;
    database.exec(SCHEMA);
    this.#put = database.prepare(
      "INSERT OR REPLACE INTO entry VALUES (:tree, :path, :offset, :kind, :mode, :uid, :gid, :mtime_ns, :xattrs, :size, :hash, :chunks, :link_group, :target)",
    );
    this.#one = database
      .prepare<[string, Buffer], Row>("SELECT * FROM entry WHERE tree = ? AND path = ?")
      .safeIntegers();
    this.#after = database
      .prepare<[string, Buffer], Row>(`SELECT * FROM entry WHERE tree = ? AND path > ? ORDER BY path LIMIT ${FETCH}`)
      .safeIntegers();
    this.#remove = database.prepare<[string, Buffer]>("DELETE FROM entry WHERE tree = ? AND path = ?");
    // "/" is followed by "0".
    this.#removeUnder = database.prepare<[string, Buffer, Buffer]>(
      "DELETE FROM entry WHERE tree = ? AND path >= ? AND path < ?",
    );
    this.#putContent = database.prepare<[Buffer, number]>("INSERT OR REPLACE INTO content VALUES (?, ?)");
    this.#contentAt = database.prepare<[Buffer], number>("SELECT offset FROM content WHERE id = ?").pluck();
    this.#putPart = database.prepare<[string, number, number, Uint8Array]>(
      "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?)",
    );
    this.#parts = database
      .prepare<[string, number], Buffer>("SELECT chunks FROM part WHERE tree = ? AND put = ? ORDER BY sequence")
      .pluck();
    this.#dropParts = database.prepare<[string, number]>("DELETE FROM part WHERE tree = ? AND put = ?");
    this.#kindAt = database
      .prepare<[string, Buffer], Row["kind"]>("SELECT kind FROM entry WHERE tree = ? AND path = ?")
      .pluck();
    this.#putGroup = database.prepare(
      `UPDATE entry SET offset = :offset, mode = :mode, uid = :uid, gid = :gid, mtime_ns = :mtime_ns, xattrs = :xattrs,
        size = :size, hash = :hash, chunks = :chunks WHERE tree = :tree AND link_group = :link_group AND path <> :path
        AND (hash, mode, uid, gid, mtime_ns, xattrs) IS NOT (:hash, :mode, :uid, :gid, :mtime_ns, :xattrs)`,
    );
    this.#members = database
      .prepare<[string, number], Buffer>("SELECT path FROM entry WHERE tree = ? AND link_group = ? ORDER BY path")
      .pluck();
  }

  /** Names of the trees, those that are empty now left out. */
  names(): string[] {
    return this.#database.prepare<[], string>("SELECT DISTINCT tree FROM entry ORDER BY tree").pluck().all();
  }

  entry(tree: string, path: TreePath): TreeEntry | undefined {
    const row = this.#one.get(tree, bytesOf(path));
    return row && entryOf(row);
  }

  /** Names of one file. */
  members(tree: string, group: number): TreePath[] {
    return this.#members.all(tree, group).map((path) => byteString(path) as TreePath);
  }

  /**
   * In the order of their bytes: a directory before what is in it. Those behind `after` only, if that is given. Changes
   * made meanwhile may be seen or not.
   */
  *entries(tree: string, after?: TreePath): Generator<TreeEntry> {
    const root = after === undefined ? this.entry(tree, TREE_ROOT) : undefined;
    if (root) yield root;
    for (let last = bytesOf(after ?? ""); ;) {
      const rows = this.#after.all(tree, last);
      for (const row of rows) yield entryOf(row);
      const end = rows.at(-1);
      if (!end) return;
      last = end.path;
    }
  }

  /** Offset of the newest record that carries the content of this name. */
  contentOffset(id: ByteString): Offset | undefined {
    const at = this.#contentAt.get(bytesOf(id));
    return at === undefined ? undefined : toOffset(at);
  }

  /** Every name of content, and the newest record that carries it. Changes made meanwhile may be seen or not. */
  *contents(): Generator<readonly [id: Buffer, offset: number]> {
    const behind = this.#database
      .prepare<[Buffer], [Buffer, number]>(`SELECT id, offset FROM content WHERE id > ? ORDER BY id LIMIT ${FETCH}`)
      .raw();
    for (let last: Buffer = Buffer.alloc(0); ;) {
      const rows = behind.all(last);
      yield* rows;
      const end = rows.at(-1);
      if (!end) return;
      [last] = end;
    }
  }

  /** Whether the beginning of a list of chunks is there whose file has not come yet. */
  get unfinished(): boolean {
    return this.#database.prepare("SELECT 1 FROM part LIMIT 1").get() !== undefined;
  }

  /** Files and their bytes, every name of one counted. */
  totals(tree: string): { files: number; bytes: number } {
    const row = this.#database
      .prepare<[string], { files: number; bytes: number }>(
        "SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes FROM entry WHERE tree = ? AND kind = 'file'",
      )
      .get(tree);
    return row ?? { files: 0, bytes: 0 };
  }

  /** As another index gave it. */
  insert(entry: TreeEntry): void {
    const place = { tree: entry.tree, path: bytesOf(entry.path), offset: entry.offset, kind: entry.kind };
    if (entry.kind === "link") {
      const { uid, gid, mtimeNs: mtime_ns } = entry;
      const metadata = { mode: 0o777, uid, gid, mtime_ns, xattrs: null };
      return void this.#put.run({ ...NO_CONTENT, ...place, ...metadata, target: bytesOf(entry.target) });
    }
    const { mode, uid, gid, mtimeNs: mtime_ns, xattrs } = entry.metadata;
    const row = { ...NO_CONTENT, ...place, mode, uid, gid, mtime_ns, xattrs: packXattrs(xattrs) };
    if (entry.kind === "dir") return void this.#put.run(row);
    const { size, hash, chunkList: chunks, group: link_group = null } = entry;
    this.#put.run({ ...row, size, hash, chunks, link_group });
  }

  /** Applying an event again changes nothing. @throws RECORD_INVALID when it does not fit the ones before */
  apply({ offset, body }: Pick<LogEvent, "offset" | "body">): void {
    switch (body.kind) {
      case "file.chunk":
        return void this.#putContent.run(Buffer.from(body.id), offset);
      case "file.part":
        return void this.#putPart.run(body.tree, body.put, body.sequence, body.chunks);
      case "epoch":
        // Whoever began them is gone, or fenced.
        return void this.#database.exec("DELETE FROM part");
      case "file.put":
      case "dir.put":
      case "link.put":
        this.#requireDirectory(offset, body);
        return this.#applyToPlace(offset, body);
      case "file.remove":
      case "dir.remove":
        return this.#applyToPlace(offset, body);
      default:
      // Not of trees.
    }
  }

  #applyToPlace(offset: Offset, body: TreeEvent): void {
    const { tree, path } = body;
    const chunks = body.kind === "file.put" ? this.#wholeList(offset, body) : null;
    // Whatever was below a directory that is one no more is gone with it.
    if (body.kind !== "dir.put") this.#removeBelow(tree, path);
    switch (body.kind) {
      case "file.put":
        if (body.data) this.#putContent.run(bytesOf(contentName(body)), offset);
        return this.#insert(offset, body, {
          kind: "file",
          size: body.size,
          hash: body.hash,
          chunks,
          link_group: body.group ?? null,
        });
      case "dir.put":
        return this.#insert(offset, body, { kind: "dir" });
      case "link.put":
        return this.#insert(offset, { ...body, mode: 0o777 }, { kind: "link", target: bytesOf(body.target) });
      default:
        this.#remove.run(tree, bytesOf(path));
    }
  }

  /** A directory comes before what is in it. @throws LOG_GAP, RECORD_INVALID */
  #requireDirectory(offset: Offset, { tree, path }: TreeEvent): void {
    if (path === "" || this.#kindAt.get(tree, bytesOf(parentPath(path))) === "dir") return;
    if (!this.#kindAt.get(tree, Buffer.alloc(0))) {
      throw new TidemarkError("LOG_GAP", `offset ${offset}: the log holds no beginning of the tree ${tree}`, {
        hint: "Its first records were removed. Stop capture on the primary, move the log aside and remove capture's state: a new log begins with everything.",
      });
    }
    throw new TidemarkError(
      "RECORD_INVALID",
      `offset ${offset}: ${tree}/${shownPath(path)} is in no directory that the log knows`,
      { hint: `The writer of the log is at fault; report it. Points before offset ${offset} can be restored.` },
    );
  }

  #insert(
    offset: Offset,
    { tree, path, mode, uid, gid, mtimeNs, xattrs }: PathMetadata & { readonly tree: string; readonly path: TreePath },
    own: Record<string, unknown>,
  ): void {
    const row = {
      tree,
      path: bytesOf(path),
      offset,
      mode,
      uid,
      gid,
      mtime_ns: mtimeNs,
      xattrs: packXattrs(xattrs),
      ...NO_CONTENT,
      ...own,
    };
    this.#put.run(row);
    // What one name of a file says is so for all of its names.
    if (row.link_group !== null) this.#putGroup.run(row);
  }

  #removeBelow(tree: string, path: TreePath): void {
    const from = bytesOf(path === "" ? "\u0001" : `${path}/`);
    const to = path === "" ? BEHIND_ALL : bytesOf(`${path}0`);
    this.#removeUnder.run(tree, from, to);
  }

  #wholeList(offset: Offset, { tree, path, put, parts, chunks, size }: FilePut): Uint8Array {
    const before = parts === 0 ? [] : this.#parts.all(tree, put);
    const list = Buffer.concat([...before, chunks]);
    let bytes = 0;
    for (const chunk of chunksOf(list)) bytes += chunk.size;
    if (before.length === parts && bytes === size) {
      this.#dropParts.run(tree, put);
      return list;
    }
    throw new TidemarkError(
      "RECORD_INVALID",
      `offset ${offset}: ${tree}/${path} is said to have ${size} bytes in ${parts} parts; ${before.length} parts and ${bytes} bytes are there`,
      { hint: `The writer of the log is at fault; report it. Points before offset ${offset} can be restored.` },
    );
  }
}

const NO_CONTENT: Readonly<Record<"size" | "hash" | "chunks" | "link_group" | "target", unknown>> = {
  size: null,
  hash: null,
  chunks: null,
  link_group: null,
  target: null,
};

function entryOf(row: Row): TreeEntry {
  const place = {
    tree: row.tree,
    path: byteString(row.path) as TreePath,
    offset: toOffset(Number(row.offset)),
  };
  const owner = { uid: Number(row.uid), gid: Number(row.gid), mtimeNs: row.mtime_ns };
  if (row.kind === "link")
    return { ...place, kind: "link", target: byteString(row.target ?? Buffer.alloc(0)), ...owner };
  const xattrs = unpackXattrs(row.xattrs);
  const metadata = { mode: Number(row.mode), ...owner, ...(xattrs ? { xattrs } : {}) };
  if (row.kind === "dir") return { ...place, kind: "dir", metadata };
  return {
    ...place,
    kind: "file",
    metadata,
    size: Number(row.size),
    hash: row.hash ?? Buffer.alloc(0),
    group: row.link_group === null ? undefined : Number(row.link_group),
    chunkList: row.chunks ?? Buffer.alloc(0),
  };
}
