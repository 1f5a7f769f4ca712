import type Database from "better-sqlite3";

import { type ByteString, bytesOf, byteString, type TreePath } from "../../event/tree-path.ts";

export interface Place {
  readonly tree: string;
  readonly path: TreePath;
}

/** What the index said of a file before the first change. */
export interface FileBefore {
  readonly size: number;
  readonly hash: Uint8Array;
  readonly chunkList: Uint8Array;
  readonly mtimeNs: bigint;
  readonly group: number | undefined;
}

/**
 * What is ready for a place. staged: content and metadata in the stage file `number`. metadata: the content that stands
 * there is right. name: it gets the file of another member of its group. placed: done.
 */
export type Readiness =
  | { readonly kind: "staged"; readonly number: number }
  | { readonly kind: "metadata" | "name" | "placed" };

export interface Touched extends Place {
  /** Undefined when there is nothing yet, or it is for another version than the index's. */
  readonly ready: Readiness | undefined;
  /** Stage file of an older version. */
  readonly stale: number | undefined;
  /** Whether the index knew a file there before: see `before`. */
  readonly wasFile: boolean;
  /** Whether the index knew anything there before. */
  readonly wasKnown: boolean;
}

interface Row {
  readonly tree: string;
  readonly path: Buffer;
  readonly ready: number | null;
  readonly ready_offset: number | null;
  readonly was_file: number;
  readonly was_known: number;
  readonly offset: number | null;
}

interface BeforeRow {
  readonly size: bigint | null;
  readonly hash: Buffer | null;
  readonly chunks: Buffer | null;
  readonly mtime_ns: bigint | null;
  readonly link_group: bigint | null;
}

const FETCH = 500;
/** No path begins with as many. */
const BEHIND_ALL: ByteString = "\xff".repeat(256);
/** As numbers: above 0 a stage file. */
const METADATA = 0;
const PLACED = -1;
const NAME = -2;

const NOT_YET = "NOT EXISTS (SELECT 1 FROM touched t WHERE t.tree = $row.tree AND t.path = $row.path)";
const notYet = (row: "NEW" | "OLD"): string => NOT_YET.replaceAll("$row", row);
const SCHEMA = `
  CREATE TEMP TABLE touched (
    tree TEXT NOT NULL, path BLOB NOT NULL,
    size INTEGER, hash BLOB, chunks BLOB, mtime_ns INTEGER, link_group INTEGER,
    ready INTEGER, ready_offset INTEGER, PRIMARY KEY (tree, path)) STRICT, WITHOUT ROWID;
  CREATE TEMP TRIGGER note_insert BEFORE INSERT ON main.entry BEGIN
    INSERT INTO touched (tree, path, size, hash, chunks, mtime_ns, link_group)
      SELECT NEW.tree, NEW.path, e.size, e.hash, e.chunks, e.mtime_ns, e.link_group
      FROM (SELECT 1) LEFT JOIN main.entry e ON e.tree = NEW.tree AND e.path = NEW.path WHERE ${notYet("NEW")};
  END;
  CREATE TEMP TRIGGER note_update BEFORE UPDATE ON main.entry BEGIN
    INSERT INTO touched (tree, path, size, hash, chunks, mtime_ns, link_group)
      SELECT OLD.tree, OLD.path, OLD.size, OLD.hash, OLD.chunks, OLD.mtime_ns, OLD.link_group WHERE ${notYet("OLD")};
  END;
  CREATE TEMP TRIGGER note_delete BEFORE DELETE ON main.entry BEGIN
    INSERT INTO touched (tree, path, size, hash, chunks, mtime_ns, link_group)
      SELECT OLD.tree, OLD.path, OLD.size, OLD.hash, OLD.chunks, OLD.mtime_ns, OLD.link_group WHERE ${notYet("OLD")};
  END;
`;

/**
 * The places whose entries in the index changed since they were last shown, noted by the index's own database: what is
 * shown is the net state, however many events made it. In a temporary table: memory does not grow with their number.
 */
export class TouchedPlaces {
  readonly #database: Database.Database;
  readonly #forward;
  readonly #backward;
  readonly #one;
  readonly #before;
  readonly #setReady;
  readonly #unchangedBelow;

  constructor(database: Database.Database) {
    this.#database = database;
    database.exec(SCHEMA);
    const select = (order: string): string =>
      `SELECT t.tree, t.path, t.ready, t.ready_offset, t.hash IS NOT NULL AS was_file,
        t.mtime_ns IS NOT NULL AS was_known, e.offset FROM touched t
        LEFT JOIN entry e ON e.tree = t.tree AND e.path = t.path ${order} LIMIT ${FETCH}`;
    this.#forward = database.prepare<[string, Buffer], Row>(
      select("WHERE (t.tree, t.path) > (?, ?) ORDER BY t.tree, t.path"),
    );
    this.#backward = database.prepare<[string, Buffer], Row>(
      select("WHERE (t.tree, t.path) < (?, ?) ORDER BY t.tree DESC, t.path DESC"),
    );
    this.#one = database.prepare<[string, Buffer], Row>(select("WHERE t.tree = ? AND t.path = ?"));
    this.#before = database
      .prepare<[string, Buffer], BeforeRow>(
        "SELECT size, hash, chunks, mtime_ns, link_group FROM touched WHERE tree = ? AND path = ?",
      )
      .safeIntegers();
    this.#unchangedBelow = database.prepare<[string, Buffer, Buffer]>(
      `SELECT 1 FROM entry e WHERE e.tree = ? AND e.path > ? AND e.path < ?
        AND NOT EXISTS (SELECT 1 FROM touched t WHERE t.tree = e.tree AND t.path = e.path) LIMIT 1`,
    );
    this.#setReady = database.prepare<[number | null, number | null, string, Buffer]>(
      "UPDATE touched SET ready = ?, ready_offset = ? WHERE tree = ? AND path = ?",
    );
  }

  get any(): boolean {
    return this.#database.prepare("SELECT 1 FROM touched LIMIT 1").get() !== undefined;
  }

  /** A directory before what is in it. */
  *inOrder(): Generator<Touched> {
    yield* this.#walk(this.#forward, { tree: "", path: Buffer.alloc(0) });
  }

  /** A directory after what is in it. */
  *backwards(): Generator<Touched> {
    // Names are text: no byte of it is 0xff.
    yield* this.#walk(this.#backward, { tree: "\u{10ffff}", path: Buffer.alloc(0) });
  }

  get({ tree, path }: Place): Touched | undefined {
    const row = this.#one.get(tree, bytesOf(path));
    return row && touchedOf(row);
  }

  /** The file that the index knew there before the first change. */
  before({ tree, path }: Place): FileBefore | undefined {
    const row = this.#before.get(tree, bytesOf(path));
    if (!row?.hash || !row.chunks || row.size === null || row.mtime_ns === null) return undefined;
    const group = row.link_group === null ? undefined : Number(row.link_group);
    return { size: Number(row.size), hash: row.hash, chunkList: row.chunks, mtimeNs: row.mtime_ns, group };
  }

  /** `offset` is that of the entry which it is for. */
  setReady({ tree, path }: Place, ready: Readiness, offset: number): void {
    this.#setReady.run(numberOf(ready), offset, tree, bytesOf(path));
  }

  /** Notes a place whose entry did not change: nothing is known of what stands there. */
  touch({ tree, path }: Place): void {
    this.#database.prepare("INSERT OR IGNORE INTO touched (tree, path) VALUES (?, ?)").run(tree, bytesOf(path));
  }

  /** Whether the index knows something below a directory that did not change. */
  hasUnchangedBelow({ tree, path }: Place): boolean {
    const [from, to] = path === "" ? [path, BEHIND_ALL] : [`${path}/`, `${path}0`];
    return this.#unchangedBelow.get(tree, bytesOf(from), bytesOf(to)) !== undefined;
  }

  /** By how much files and bytes of each tree became more. */
  growth(): { tree: string; files: number; bytes: number }[] {
    return this.#database
      .prepare<[], { tree: string; files: number; bytes: number }>(
        `SELECT t.tree, sum((e.hash IS NOT NULL) - (t.hash IS NOT NULL)) AS files,
          sum(coalesce(e.size, 0) - coalesce(t.size, 0)) AS bytes
        FROM touched t LEFT JOIN entry e ON e.tree = t.tree AND e.path = t.path GROUP BY t.tree`,
      )
      .all();
  }

  clear(): void {
    this.#database.exec("DELETE FROM touched");
  }

  *#walk(
    statement: Database.Statement<[string, Buffer], Row>,
    from: { readonly tree: string; readonly path: Buffer },
  ): Generator<Touched> {
    for (let last = from; ;) {
      const rows = statement.all(last.tree, last.path);
      for (const row of rows) yield touchedOf(row);
      const end = rows.at(-1);
      if (!end) return;
      last = end;
    }
  }
}

function touchedOf({ tree, path, ready, ready_offset, was_file, was_known, offset }: Row): Touched {
  const isCurrent = ready_offset === offset;
  return {
    tree,
    path: byteString(path) as TreePath,
    ready: ready !== null && isCurrent ? readinessOf(ready) : undefined,
    stale: ready !== null && ready > 0 && !isCurrent ? ready : undefined,
    wasFile: was_file === 1,
    wasKnown: was_known === 1,
  };
}

function readinessOf(number: number): Readiness {
  if (number > 0) return { kind: "staged", number };
  return { kind: number === METADATA ? "metadata" : number === NAME ? "name" : "placed" };
}

function numberOf(ready: Readiness): number {
  if (ready.kind === "staged") return ready.number;
  return { metadata: METADATA, name: NAME, placed: PLACED }[ready.kind];
}
