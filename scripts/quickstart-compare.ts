/** Comparison row by row and file by file: of a restored shop with the application's own journal, and of any two copies. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { type Contents, contentsAfter, type JournalEntry, type Row } from "./quickstart-shop.ts";

export function readJournal(path: string): JournalEntry[] {
  const whole = readFileSync(path, "utf8");
  // The application may be in the middle of its last line.
  const complete = whole.slice(0, whole.lastIndexOf("\n") + 1);
  return complete
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as JournalEntry);
}

export interface Comparison {
  readonly rows: number;
  /** The first few differences, for people; empty when equal. */
  readonly differences: readonly string[];
}

export function compareRows(expected: Contents, actual: Contents): Comparison {
  const differences: string[] = [];
  let rows = 0;
  for (const [table, expectedRows] of expected) {
    const actualRows = actual.get(table) ?? [];
    const count = Math.max(expectedRows.length, actualRows.length);
    for (let index = 0; index < count; index += 1) {
      const wanted = JSON.stringify(expectedRows[index]);
      const found = JSON.stringify(actualRows[index]);
      rows += 1;
      if (wanted !== found) differences.push(`${table} row ${index + 1}: expected ${wanted}, found ${found}`);
    }
  }
  return { rows, differences: differences.slice(0, 5) };
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

export function readShop(path: string): Contents {
  const database = new Database(path, { readonly: true, fileMustExist: true });
  try {
    const tables = ["customer", "order_line", "orders", "receipt", "till"];
    const rowsOf = (table: string): Row[] =>
      database
        .prepare(`SELECT * FROM ${quoted(table)} ORDER BY id`)
        .raw()
        .all() as Row[];
    return database.transaction(() => new Map(tables.map((table) => [table, rowsOf(table)])))();
  } finally {
    database.close();
  }
}

export interface RestoredShop extends Comparison {
  /** How many orders the restored database holds. */
  readonly orders: number;
  /** The last order in it was committed this long before the moment asked for. */
  readonly lastBeforeMs: number;
  /** The first order not in it: its commit returned this long after the moment (negative: before it). */
  readonly nextAfterMs: number;
}

/** The journal says what the application had; the restored database must be exactly that up to some order. */
export function compareWithJournal(path: string, journal: readonly JournalEntry[], momentMs: number): RestoredShop {
  const actual = readShop(path);
  const orders = actual.get("orders")?.length ?? 0;
  return {
    ...compareRows(contentsAfter(journal, orders), actual),
    orders,
    lastBeforeMs: momentMs - (journal[orders - 1]?.beganMs ?? momentMs),
    nextAfterMs: (journal[orders]?.committedMs ?? momentMs) - momentMs,
  };
}

export interface ComparedFiles {
  /** Rows that stand for a file, each compared with it. */
  readonly files: number;
  readonly differences: readonly string[];
  /** Files that no row stands for: written and not committed yet, or the row deleted and not yet the file. */
  readonly withoutRow: readonly string[];
}

/** Every row of a shop that stands for a file must find it, with the hash that the row holds. */
export function compareReceipts(database: string, directory: string): ComparedFiles {
  const rows = readShop(database).get("receipt") ?? [];
  const present = new Set(readdirSync(directory));
  const differences = rows.flatMap(([, name, sha256]) => {
    if (!present.delete(String(name))) return [`${name}: the row is there, the file is not`];
    return sha256Of(join(directory, String(name))) === sha256 ? [] : [`${name}: another content than its row says`];
  });
  return { files: rows.length, differences: differences.slice(0, 5), withoutRow: [...present] };
}

const sha256Of = (file: string): string => createHash("sha256").update(readFileSync(file)).digest("hex");

/** Path below the directory to SHA-256, of every file. One that is removed while they are read is left out. */
export function digestFiles(directory: string): Map<string, string> {
  const digests = new Map<string, string>();
  for (const file of filesBelow(directory).toSorted()) {
    const sha256 = unlessRemoved(() => sha256Of(file));
    if (sha256 !== undefined) digests.set(file.slice(directory.length + 1), sha256);
  }
  return digests;
}

/** Regular files; what is removed meanwhile is left out. */
export function filesBelow(directory: string): string[] {
  const entries = unlessRemoved(() => readdirSync(directory, { withFileTypes: true })) ?? [];
  return entries.flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}

function unlessRemoved<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

export interface Digest {
  readonly rows: number;
  readonly tables: number;
  readonly sha256: string;
}

/** Schema and every row of every ordinary table, in the order SQLite returns them, in one read transaction. */
export function digestOf(path: string): Digest {
  const database = new Database(path, { readonly: true, fileMustExist: true });
  database.defaultSafeIntegers(true);
  try {
    return database.transaction(() => digestTables(database))();
  } finally {
    database.close();
  }
}

function digestTables(database: Database.Database): Digest {
  const hash = createHash("sha256");
  const schema = database.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name").raw().all() as Row[];
  let rows = 0;
  const add = (row: Row): void => void hash.update(JSON.stringify(row.map(encodeValue))).update("\n");
  schema.forEach(add);
  const tables = schema.filter(([type, , sql]) => type === "table" && !/^CREATE VIRTUAL/i.test(String(sql)));
  for (const [, name] of tables) {
    for (const row of database
      .prepare(`SELECT * FROM ${quoted(String(name))}`)
      .raw()
      .iterate()) {
      add(row as Row);
      rows += 1;
    }
  }
  return { rows, tables: tables.length, sha256: hash.digest("hex") };
}

/** Integers and blobs have no JSON of their own. */
function encodeValue(value: unknown): unknown {
  if (typeof value === "bigint") return `i${value}`;
  return Buffer.isBuffer(value) ? `x${value.toString("hex")}` : value;
}
