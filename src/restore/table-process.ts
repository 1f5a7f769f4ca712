import fs from "node:fs";

import Database from "better-sqlite3";

import { errnoOf } from "../runtime/errors.ts";
import type { ExtractAnswer, ExtractRequest } from "./extract-tables.ts";

/** What is written at a time. */
const PIECE_BYTES = 1024 * 1024;

/** The program behind extractTables: a table in, a file out, until its parent goes away or ends it. */
process.on("message", (message) => {
  process.send?.(extract(message as ExtractRequest));
});

interface Table {
  readonly name: string;
  readonly sql: string;
  /** How to name row numbers that no column shows. */
  readonly rowid: string | undefined;
  /** Those that are stored. */
  readonly columns: readonly string[];
}

function extract(request: ExtractRequest): ExtractAnswer {
  let source: Database.Database | undefined;
  try {
    source = new Database(request.file, { fileMustExist: true });
    // Alone with the file: no wal-index file is needed.
    source.pragma("locking_mode=EXCLUSIVE");
    const tables = source
      .prepare<[], string>(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
      )
      .pluck()
      .all();
    const table = findTable(source, request.table);
    if (!table) return { tables: tables.toSorted() };
    return request.format === "sql" ? writeSql(source, table, request.result) : writeDatabase(source, table, request);
  } catch (error) {
    if (!errnoOf(error)?.startsWith("SQLITE_")) throw error;
    return { problem: error instanceof Error ? error.message : String(error) };
  } finally {
    source?.close();
  }
}

function findTable(source: Database.Database, wanted: string): Table | undefined {
  const found = source
    .prepare<[string], { name: string; sql: string }>(
      `SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         AND name = ? COLLATE NOCASE`,
    )
    .get(wanted);
  if (!found) return undefined;
  const columns = source
    .prepare<[string], Column>("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?)")
    .all(found.name);
  const rowid = hasHiddenRowid(source, found.name, columns) ? rowidName(columns) : undefined;
  return { ...found, rowid, columns: columns.filter(({ hidden }) => hidden === 0).map(({ name }) => name) };
}

interface Column {
  readonly name: string;
  readonly type: string;
  readonly pk: number;
  /** 0: stored, and named by `*`. */
  readonly hidden: number;
}

function hasHiddenRowid(source: Database.Database, table: string, columns: readonly Column[]): boolean {
  const keys = columns.filter(({ pk }) => pk > 0);
  if (keys.length === 1 && keys[0]?.type.toUpperCase() === "INTEGER") return false;
  return (
    source.prepare<[string], number>("SELECT count(*) FROM pragma_table_list(?) WHERE NOT wr").pluck().get(table) === 1
  );
}

function rowidName(columns: readonly Column[]): string | undefined {
  const taken = new Set(columns.map(({ name }) => name.toLowerCase()));
  return ["rowid", "_rowid_", "oid"].find((name) => !taken.has(name));
}

interface Companions {
  readonly indexes: readonly { readonly name: string; readonly sql: string }[];
  readonly triggers: readonly string[];
  /** Of AUTOINCREMENT. */
  readonly sequence: bigint | undefined;
}

function companionsOf(source: Database.Database, table: Table): Companions {
  const own = source
    .prepare<[string], { type: string; name: string; sql: string }>(
      "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name = ? COLLATE NOCASE AND sql IS NOT NULL ORDER BY rowid",
    )
    .all(table.name);
  const counts = source
    .prepare<[], number>("SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_sequence'")
    .pluck();
  const sequence = counts.get()
    ? source
        .prepare<[string], bigint>("SELECT seq FROM sqlite_sequence WHERE name = ?")
        .pluck()
        .safeIntegers()
        .get(table.name)
    : undefined;
  return {
    indexes: own.filter(({ type }) => type === "index"),
    triggers: own.filter(({ type }) => type === "trigger").map(({ name }) => name),
    sequence,
  };
}

function writeDatabase(source: Database.Database, table: Table, { file, result }: ExtractRequest): ExtractAnswer {
  const { indexes, triggers, sequence } = companionsOf(source, table);
  const encoding = String(source.pragma("encoding", { simple: true }));
  const pageSize = Number(source.pragma("page_size", { simple: true }));
  // It is attached below, and only one connection can have it to itself.
  source.close();
  const leftOut = triggers.map((name) => `trigger ${name}`);
  const made = new Database(result);
  try {
    made.pragma(`page_size=${pageSize}`);
    made.pragma(`encoding=${quoted(encoding)}`);
    made.pragma("foreign_keys=OFF");
    made.pragma("locking_mode=EXCLUSIVE");
    made.prepare("ATTACH ? AS restored").run(file);
    made.exec("BEGIN");
    made.exec(table.sql);
    const columns = [...(table.rowid === undefined ? [] : [table.rowid]), ...table.columns].map(quoted).join(", ");
    const name = quoted(table.name);
    const { changes: rows } = made
      .prepare(`INSERT INTO main.${name} (${columns}) SELECT ${columns} FROM restored.${name}`)
      .run();
    if (sequence !== undefined) setSequence(made, table.name, sequence);
    for (const index of indexes) if (!makeIndex(made, index.sql)) leftOut.push(`index ${index.name}`);
    made.exec("COMMIT");
    made.exec("DETACH restored");
    return { rows, leftOut };
  } finally {
    made.close();
  }
}

function setSequence(made: Database.Database, table: string, sequence: bigint): void {
  made.prepare("DELETE FROM sqlite_sequence WHERE name = ?").run(table);
  made.prepare("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)").run(table, sequence);
}

/** false: it needs a collation or a function of the application's. */
function makeIndex(made: Database.Database, sql: string): boolean {
  try {
    made.exec(sql);
    return true;
  } catch (error) {
    if (errnoOf(error)?.startsWith("SQLITE_ERROR")) return false;
    throw error;
  }
}

/** As the `.dump` of SQLite's own shell has it. */
function writeSql(source: Database.Database, table: Table, result: string): ExtractAnswer {
  const { indexes, triggers, sequence } = companionsOf(source, table);
  using out = new Output(result);
  // Of use in a new database: the bytes of a text with a NUL in it are in this encoding.
  out.line(`PRAGMA encoding=${text(String(source.pragma("encoding", { simple: true })))};`);
  out.line("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;");
  out.line(`${table.sql};`);
  const columns = table.columns.map(quoted);
  const toText = textOf(source);
  const values = columns.map(literal).join(" || ',' || ");
  const head = Buffer.from(`INSERT INTO ${quoted(table.name)}(${columns.join(",")}) VALUES(`);
  const name = quoted(table.name);
  let rows = 0;
  for (const row of source.prepare<[], Buffer>(`SELECT CAST(${values} AS BLOB) FROM ${name}`).pluck().iterate()) {
    out.write(head, toText(row), END_OF_ROW);
    rows += 1;
  }
  if (sequence !== undefined) {
    out.line(`DELETE FROM sqlite_sequence WHERE name=${text(table.name)};`);
    out.line(`INSERT INTO sqlite_sequence(name,seq) VALUES(${text(table.name)},${sequence});`);
  }
  for (const { sql } of indexes) out.line(`${sql};`);
  out.line("COMMIT;");
  return { rows, leftOut: triggers.map((trigger) => `trigger ${trigger}`) };
}

const END_OF_ROW = Buffer.from(");\n");

/** quote() ends a text at its first NUL. */
function literal(column: string): string {
  const hex = `'CAST(X''' || hex(${column}) || ''' AS TEXT)'`;
  return `CASE WHEN typeof(${column}) = 'text' AND instr(${column}, char(0)) > 0 THEN ${hex} ELSE quote(${column}) END`;
}

/** Bytes of a text, which are in the database's encoding, as UTF-8. */
function textOf(source: Database.Database): (bytes: Buffer) => Buffer {
  const encoding = source.pragma("encoding", { simple: true });
  if (encoding === "UTF-8") return (bytes) => bytes;
  return (bytes) => Buffer.from((encoding === "UTF-16le" ? bytes : Buffer.from(bytes).swap16()).toString("utf16le"));
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function text(value: string): string {
  return `'${value.replaceAll("'", "''")}'`;
}

class Output implements Disposable {
  readonly #fd: number;
  #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(file: string) {
    this.#fd = fs.openSync(file, "wx");
  }

  line(sql: string): void {
    this.write(Buffer.from(`${sql}\n`));
  }

  write(...pieces: readonly Buffer[]): void {
    for (const piece of pieces) {
      this.#pieces.push(piece);
      this.#bytes += piece.length;
    }
    if (this.#bytes >= PIECE_BYTES) this.#flush();
  }

  [Symbol.dispose](): void {
    try {
      this.#flush();
    } finally {
      fs.closeSync(this.#fd);
    }
  }

  #flush(): void {
    const all = Buffer.concat(this.#pieces);
    for (let done = 0; done < all.length;) done += fs.writeSync(this.#fd, all, done);
    this.#pieces = [];
    this.#bytes = 0;
  }
}
