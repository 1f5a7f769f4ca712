import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import type Database from "better-sqlite3";

import { type BankOptions, bodyOf, DEFAULT_BANK, transferOf } from "../apps/bank.ts";

/**
 * A database that proves where it comes from: each entry carries a hash over all before it, so one hash names one history,
 * whatever host it was written on. Every fourth entry names a file, which its writer makes before and removes 40 entries later.
 */
export const LEDGER_SCHEMA = `
  CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
  CREATE TABLE entries (seq INTEGER PRIMARY KEY, writer INTEGER NOT NULL, n INTEGER NOT NULL, chain TEXT NOT NULL,
    body BLOB NOT NULL, file TEXT);
`;

export const LEDGER: BankOptions = { ...DEFAULT_BANK, seed: "ledger", bodyBytes: 300 };
/** Of a ledger without entries. */
export const GENESIS = "genesis";
const FILE_EVERY = 4;
const FILE_ENTRIES = 40;

export interface EntryRow {
  readonly seq: number;
  readonly writer: number;
  readonly n: number;
  readonly chain: string;
  readonly body: Uint8Array;
  readonly file: string | null;
}

export function chainAfter(previous: string, writer: number, n: number): string {
  return createHash("sha256").update(`${previous} ${writer} ${n}`).digest("hex").slice(0, 20);
}

/** Below the tree's root; undefined: this entry has none. */
export function fileOf(writer: number, n: number): string | undefined {
  return n % FILE_EVERY === 0 ? `${writer}/${n}` : undefined;
}

/** Whose file goes with the writer's entry `n`. */
export function entryWhoseFileEndsWith(n: number): number {
  return n - FILE_ENTRIES;
}

export function fileContent(writer: number, n: number): Buffer {
  return bodyOf(LEDGER, writer, -n);
}

/** Makes its tables in a database in WAL mode. */
export function fillLedger(database: Database.Database): void {
  database.exec(LEDGER_SCHEMA);
  const insert = database.prepare("INSERT INTO accounts VALUES (?, ?)");
  for (let id = 0; id < LEDGER.accounts; id += 1) insert.run(id, LEDGER.openingBalance);
}

export interface LedgerLook {
  readonly seq: number;
  readonly chain: string;
  /** What cannot be in any state that a writer made. */
  readonly problems: readonly string[];
  /** Files that its rows name, as they stand there. */
  readonly files: readonly { readonly name: string; readonly content: Buffer }[];
}

/** Looks at the newest `entries` of a ledger, or at all of them, in one read transaction. */
export function lookAtLedger(database: Database.Database, entries = Infinity): LedgerLook {
  return database.transaction(() => {
    const number = (sql: string): number => Number(database.prepare(sql).pluck().get());
    const seq = number("SELECT coalesce(max(seq), 0) FROM entries");
    const problems: string[] = [];
    const count = number("SELECT count(*) FROM entries");
    if (count !== seq) problems.push(`at ${seq} there are ${count} entries`);
    const money = number("SELECT sum(balance) FROM accounts");
    if (money !== LEDGER.accounts * LEDGER.openingBalance) problems.push(`at ${seq} the balances sum up to ${money}`);
    const rows = database
      .prepare<[number], EntryRow>("SELECT * FROM entries WHERE seq > ? ORDER BY seq")
      .all(Math.max(0, seq - entries));
    problems.push(...wrongEntries(rows));
    if (rows.length === seq) problems.push(...wrongBalances(database, rows), ...wrongFiles(rows));
    const named = rows.filter(({ file }) => file !== null);
    const files = named.map(({ file, writer, n }) => ({ name: file ?? "", content: fileContent(writer, n) }));
    return { seq, chain: rows.at(-1)?.chain ?? GENESIS, problems, files };
  })();
}

function wrongEntries(rows: readonly EntryRow[]): string[] {
  return rows.flatMap((row, index) => {
    const { seq, writer, n, chain, body } = row;
    const before = seq === 1 ? GENESIS : rows[index - 1]?.chain;
    const problems: string[] = [];
    if (before !== undefined && chain !== chainAfter(before, writer, n))
      problems.push(`entry ${seq} has another chain`);
    if (!bodyOf(LEDGER, writer, n).equals(body)) problems.push(`entry ${seq} has another body`);
    return problems;
  });
}

function wrongBalances(database: Database.Database, rows: readonly EntryRow[]): string[] {
  const expected = Array.from({ length: LEDGER.accounts }, () => LEDGER.openingBalance);
  for (const { writer, n } of rows) {
    const { from, to, amount } = transferOf(LEDGER, writer, n);
    expected[from] = (expected[from] ?? 0) - amount;
    expected[to] = (expected[to] ?? 0) + amount;
  }
  const found = database.prepare("SELECT balance FROM accounts ORDER BY id").pluck().all() as number[];
  const wrong = expected.findIndex((balance, id) => found[id] !== balance);
  return wrong === -1 ? [] : [`at ${rows.length} account ${wrong} holds ${found[wrong]}, not ${expected[wrong]}`];
}

function wrongFiles(rows: readonly EntryRow[]): string[] {
  const newest = new Map(rows.map(({ writer, n }) => [writer, n]));
  return rows.flatMap(({ seq, writer, n, file }) => {
    const ended = entryWhoseFileEndsWith(newest.get(writer) ?? 0) >= n;
    const expected = ended ? null : (fileOf(writer, n) ?? null);
    return file === expected ? [] : [`entry ${seq} names the file ${file}, not ${expected}`];
  });
}

/** Files of the look that are not there, or hold something else. */
export function missingFiles(look: LedgerLook, root: string): string[] {
  return look.files.filter(({ name, content }) => !isThere(path.join(root, name), content)).map(({ name }) => name);
}

function isThere(file: string, content: Buffer): boolean {
  try {
    return fs.readFileSync(file).equals(content);
  } catch {
    return false;
  }
}
