// A program under test: reads a bank's hot standby all along and checks on every look that what it sees is a state
// that the bank once had, and never an older one than before. Prints a report at SIGTERM.
// node reader.ts '<ReaderOptions as JSON>'
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import Database from "better-sqlite3";

import { bodyOf, type BankOptions } from "./bank.ts";

export interface ReaderOptions {
  readonly database: string;
  readonly bank: BankOptions;
  readonly everyMs: number;
  /** Looks before the connection that is opened anew from time to time is opened anew. */
  readonly reopenEvery: number;
}

export interface ReaderReport {
  looks: number;
  reopens: number;
  /** Different states seen. */
  states: number;
  lastSeq: number;
  /** SQLITE_BUSY in spite of a busy timeout of 5 s. */
  busyErrors: number;
  violations: string[];
}

interface EntryRow {
  readonly seq: number;
  readonly writer: number;
  readonly n: number;
  readonly body: Buffer;
}

const options = JSON.parse(process.argv[2] ?? "{}") as ReaderOptions;
const report: ReaderReport = { looks: 0, reopens: 0, states: 0, lastSeq: 0, busyErrors: 0, violations: [] };

/** Said at once on a line of its own, and again in the report. */
function violated(what: string): void {
  if (report.violations.length === 20 || report.violations.includes(what)) return;
  report.violations.push(what);
  process.stdout.write(`violation: ${what}\n`);
}

/** One look in one read transaction. */
function look(database: Database.Database): void {
  const { bank } = options;
  const one = (sql: string): number => Number(database.prepare(sql).pluck().get());
  database.transaction(() => {
    const seq = one("SELECT seq FROM head");
    const money = one("SELECT sum(balance) FROM accounts");
    const count = one("SELECT count(*) FROM entries");
    const last = one("SELECT coalesce(max(seq), 0) FROM entries");
    if (money !== bank.accounts * bank.openingBalance) violated(`at ${seq} the balances sum up to ${money}`);
    if (count !== seq || last !== seq) violated(`at ${seq} there are ${count} entries, the last is ${last}`);
    if (seq < report.lastSeq) violated(`went back from ${report.lastSeq} to ${seq}`);
    const from = Math.max(1, Math.floor(Math.random() * seq) - 20);
    const check = database.prepare<[number, number], EntryRow>("SELECT * FROM entries WHERE seq BETWEEN ? AND ?");
    for (const row of [...check.all(from, from + 40), ...check.all(seq - 5, seq)]) checkEntry(row, seq);
    if (seq !== report.lastSeq) report.states += 1;
    report.lastSeq = seq;
  })();
}

function checkEntry(row: EntryRow, seq: number): void {
  const { bank } = options;
  const expected = row.seq > seq - bank.keepBodies ? bodyOf(bank, row.writer, row.n) : Buffer.alloc(0);
  if (!expected.equals(row.body)) violated(`at ${seq} entry ${row.seq} has another body`);
}

function open(): Database.Database {
  return new Database(options.database, { readonly: true, fileMustExist: true, timeout: 5000 });
}

/** What failed counts as a violation: a hot standby can be read at any time. */
function attempt(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (error instanceof Database.SqliteError && error.code.startsWith("SQLITE_BUSY")) report.busyErrors += 1;
    else violated(String(error));
  }
}

let stop = false;
process.on("SIGTERM", () => (stop = true));
process.stdout.write("ready\n");
// The first copy comes to its place whole; before it there is nothing to read.
while (!stop && !fs.existsSync(options.database)) await sleep(options.everyMs);
let held: Database.Database | undefined;
let fresh: Database.Database | undefined;
for (let looks = 0; !stop; looks += 1) {
  attempt(() => {
    held ??= open();
    look(held);
    if (looks % options.reopenEvery === 0) {
      fresh?.close();
      fresh = undefined;
    }
    if (!fresh) report.reopens += 1;
    fresh ??= open();
    look(fresh);
    report.looks += 2;
  });
  await sleep(options.everyMs);
}
process.stdout.write(`${JSON.stringify(report)}\n`);
