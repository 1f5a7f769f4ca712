// A program under test: writes bank transactions until SIGTERM, then prints a report of what the writing was like.
// node writer.ts '<WriterOptions as JSON>'
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import Database from "better-sqlite3";

import { BANK_SCHEMA, bodyOf, transferOf, type BankOptions, type JournalEntry } from "./bank.ts";

export interface WriterOptions {
  readonly database: string;
  /** One JournalEntry a line. Not fsynced: a write survives a kill, and a test that cuts the power knows it all the same. */
  readonly journal: string;
  readonly writer: number;
  readonly bank: BankOptions;
  /** Transactions a second; they come in bursts. */
  readonly rate: number;
  /** Transactions written in one go before the writer rests. */
  readonly burst: number;
  /** Stops by itself after so many. */
  readonly limit?: number;
  readonly autocheckpoint?: number;
  /** Runs wal_checkpoint(TRUNCATE) after so many transactions of its own. */
  readonly truncateEvery?: number;
  /** NORMAL when left out: a power cut may take the last transactions. */
  readonly synchronous?: "NORMAL" | "FULL";
}

export interface WriterReport {
  commits: number;
  busyErrors: number;
  /** Longest time from BEGIN to the end of COMMIT. */
  worstMs: number;
  truncates: number;
  busyTruncates: number;
  worstTruncateMs: number;
}

/** Makes the database of a bank, in WAL mode. */
function createBank(path: string, bank: BankOptions): void {
  const database = new Database(path);
  database.pragma("journal_mode=WAL");
  database.transaction(() => {
    database.exec(BANK_SCHEMA);
    const insert = database.prepare("INSERT INTO accounts VALUES (?, ?)");
    for (let id = 0; id < bank.accounts; id += 1) insert.run(id, bank.openingBalance);
  })();
  database.close();
}

class Writer {
  readonly report: WriterReport = {
    commits: 0,
    busyErrors: 0,
    worstMs: 0,
    truncates: 0,
    busyTruncates: 0,
    worstTruncateMs: 0,
  };
  readonly #options: WriterOptions;
  readonly #database: Database.Database;
  readonly #journalFd: number;
  readonly #transact: (n: number) => number;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#database = new Database(options.database, { timeout: 5000, fileMustExist: true });
    this.#database.pragma(`synchronous=${options.synchronous ?? "NORMAL"}`);
    if (options.autocheckpoint !== undefined) this.#database.pragma(`wal_autocheckpoint=${options.autocheckpoint}`);
    this.#journalFd = fs.openSync(options.journal, "a");
    this.#transact = this.#prepare();
  }

  #prepare(): (n: number) => number {
    const { bank, writer } = this.#options;
    const next = this.#database.prepare<[], number>("UPDATE head SET seq = seq + 1 RETURNING seq").pluck();
    const move = this.#database.prepare("UPDATE accounts SET balance = balance + ? WHERE id = ?");
    const insert = this.#database.prepare("INSERT INTO entries VALUES (?, ?, ?, ?)");
    const empty = this.#database.prepare("UPDATE entries SET body = x'' WHERE seq = ?");
    const transact = this.#database.transaction((n: number) => {
      const seq = next.get() ?? 0;
      const { from, to, amount } = transferOf(bank, writer, n);
      move.run(-amount, from);
      move.run(amount, to);
      insert.run(seq, writer, n, bodyOf(bank, writer, n));
      empty.run(seq - bank.keepBodies);
      return seq;
    });
    return (n) => transact.immediate(n);
  }

  commit(n: number): void {
    const { writer } = this.#options;
    const beforeMs = Date.now();
    const started = performance.now();
    const seq = this.#transact(n);
    this.report.worstMs = Math.max(this.report.worstMs, performance.now() - started);
    const entry: JournalEntry = { seq, writer, n, beforeMs, afterMs: Date.now() };
    fs.writeSync(this.#journalFd, `${JSON.stringify(entry)}\n`);
    this.report.commits += 1;
  }

  truncate(): void {
    const started = performance.now();
    const [row] = this.#database.pragma("wal_checkpoint(TRUNCATE)") as { busy: number }[];
    this.report.worstTruncateMs = Math.max(this.report.worstTruncateMs, performance.now() - started);
    this.report.truncates += 1;
    this.report.busyTruncates += row?.busy ?? 0;
  }

  async run(stopped: () => boolean): Promise<void> {
    const { burst, rate, truncateEvery, limit = Infinity } = this.#options;
    for (let n = 1; n <= limit && !stopped(); n += 1) {
      try {
        this.commit(n);
      } catch (error) {
        if (!(error instanceof Database.SqliteError) || !error.code.startsWith("SQLITE_BUSY")) throw error;
        this.report.busyErrors += 1;
      }
      if (truncateEvery && n % truncateEvery === 0) this.truncate();
      // Also gives the signal handler its turn.
      if (n % burst === 0) await sleep((1000 * burst) / rate);
    }
    this.#database.close();
    fs.closeSync(this.#journalFd);
  }
}

const options = JSON.parse(process.argv[2] ?? "{}") as WriterOptions & { readonly create?: true };
if (options.create) {
  createBank(options.database, options.bank);
} else {
  let stop = false;
  process.on("SIGTERM", () => (stop = true));
  const writer = new Writer(options);
  process.stdout.write("ready\n");
  await writer.run(() => stop);
  process.stdout.write(`${JSON.stringify(writer.report)}\n`);
}
