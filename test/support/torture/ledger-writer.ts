// A program under test: writes entries of a ledger and their files until SIGTERM, and a journal of what it knows of each.
// node ledger-writer.ts '<LedgerWriterOptions as JSON>'
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import Database from "better-sqlite3";

import { bodyOf, transferOf } from "../apps/bank.ts";
import { type JournalLine, machineMs } from "./journal.ts";
import { chainAfter, entryWhoseFileEndsWith, fileContent, fileOf, GENESIS, LEDGER } from "./ledger.ts";

export interface LedgerWriterOptions {
  readonly database: string;
  /** The file tree. */
  readonly root: string;
  readonly journal: string;
  readonly place: string;
  /** Of this process alone: another one has another number. */
  readonly writer: number;
  readonly everyMs: number;
  readonly autocheckpoint: number;
}

const BUSY_TIMEOUT_MS = 400;

class LedgerWriter {
  readonly #options: LedgerWriterOptions;
  readonly #database: Database.Database;
  readonly #journal: number;

  constructor(options: LedgerWriterOptions) {
    this.#options = options;
    this.#database = new Database(options.database, { timeout: BUSY_TIMEOUT_MS, fileMustExist: true });
    this.#database.pragma("synchronous=NORMAL");
    this.#database.pragma(`wal_autocheckpoint=${options.autocheckpoint}`);
    this.#journal = fs.openSync(options.journal, "a");
  }

  /** The file, the entry, the end of an old file; as an application does it that must not lose its uploads. */
  commit(n: number): void {
    this.#writeFile(n);
    const database = this.#database;
    database.exec("BEGIN IMMEDIATE");
    let chain: string | undefined;
    try {
      chain = this.#insert(n);
      database.exec("COMMIT");
    } catch (error) {
      if (database.inTransaction) database.exec("ROLLBACK");
      if (chain !== undefined) this.#tell({ at: "failed", chain, why: String(error) });
      throw error;
    }
    this.#tell({ at: "done", chain, ms: machineMs() });
    const ended = fileOf(this.#options.writer, entryWhoseFileEndsWith(n));
    if (ended !== undefined) fs.rmSync(path.join(this.#options.root, ended), { force: true });
  }

  #writeFile(n: number): void {
    const { writer, root } = this.#options;
    const name = fileOf(writer, n);
    if (name === undefined) return;
    const file = path.join(root, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(`${file}.part`, fileContent(writer, n));
    fs.renameSync(`${file}.part`, file);
  }

  #insert(n: number): string {
    const { writer, place } = this.#options;
    const sql = (text: string): Database.Statement => this.#database.prepare(text);
    const last = sql("SELECT seq, chain FROM entries ORDER BY seq DESC LIMIT 1").get() as
      | { seq: number; chain: string }
      | undefined;
    const { seq, chain: previous } = last ?? { seq: 0, chain: GENESIS };
    const chain = chainAfter(previous, writer, n);
    const { from, to, amount } = transferOf(LEDGER, writer, n);
    const move = sql("UPDATE accounts SET balance = balance + ? WHERE id = ?");
    move.run(-amount, from);
    move.run(amount, to);
    const row = [seq + 1, writer, n, chain, bodyOf(LEDGER, writer, n), fileOf(writer, n) ?? null];
    sql("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)").run(row);
    sql("UPDATE entries SET file = NULL WHERE writer = ? AND n = ?").run(writer, entryWhoseFileEndsWith(n));
    this.#tell({ at: "begun", chain, previous, seq: seq + 1, place });
    return chain;
  }

  #tell(line: JournalLine): void {
    fs.writeSync(this.#journal, `${JSON.stringify(line)}\n`);
  }

  async run(stopped: () => boolean): Promise<void> {
    for (let n = 1; !stopped();) {
      try {
        this.commit(n);
        n += 1;
      } catch (error) {
        // Fenced, or without room: an application shows its user an error and goes on. Anything else is one that it must not get.
        if (!/^SQLITE_(BUSY|FULL|IOERR)|^ENOSPC/.test((error as { code?: string }).code ?? "")) throw error;
      }
      await sleep(this.#options.everyMs);
    }
    this.#database.close();
  }
}

let stop = false;
process.on("SIGTERM", () => (stop = true));
const writer = new LedgerWriter(JSON.parse(process.argv[2] ?? "{}") as LedgerWriterOptions);
process.stdout.write("ready\n");
await writer.run(() => stop);
