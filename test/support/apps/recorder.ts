import { createHash } from "node:crypto";
import fs from "node:fs";

import Database from "better-sqlite3";

import { bodyOf, transferOf, type BankOptions, type JournalEntry } from "./bank.ts";

/** Knows from the writers' journals what a bank's database held after each transaction. */
export class Recorder {
  readonly #bank: BankOptions;
  /** In the order of their numbers: entry `seq` is at `seq - 1`. */
  readonly #entries: readonly JournalEntry[];
  readonly #digests = new Map<string, Buffer>();

  constructor(bank: BankOptions, journals: readonly string[]) {
    this.#bank = bank;
    this.#entries = journals
      .flatMap((journal) => fs.readFileSync(journal, "utf8").trimEnd().split("\n"))
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as JournalEntry)
      .toSorted((a, b) => a.seq - b.seq);
    const hole = this.#entries.findIndex((entry, index) => entry.seq !== index + 1);
    if (hole !== -1) throw new Error(`the journals hold no transaction ${hole + 1}`);
  }

  get lastSeq(): number {
    return this.#entries.length;
  }

  entry(seq: number): JournalEntry {
    const entry = this.#entries[seq - 1];
    if (!entry) throw new Error(`there was no transaction ${seq}`);
    return entry;
  }

  /** Digest of the rows that the database held after transaction `seq`; compare with `bankDigest`. */
  digestAt(seq: number): string {
    const balances = Array.from({ length: this.#bank.accounts }, () => this.#bank.openingBalance);
    const hash = createHash("sha256").update(`head ${seq}\n`);
    for (const { seq: at, writer, n } of this.#entries.slice(0, seq)) {
      const { from, to, amount } = transferOf(this.#bank, writer, n);
      balances[from] = (balances[from] ?? 0) - amount;
      balances[to] = (balances[to] ?? 0) + amount;
      hash.update(`${at} ${writer} ${n} `);
      if (at > seq - this.#bank.keepBodies) hash.update(this.#body(writer, n));
    }
    balances.forEach((balance, id) => hash.update(`account ${id} ${balance}\n`));
    return hash.digest("hex");
  }

  /** The last transaction that had surely ended at `timeMs`. */
  lastEndedBefore(timeMs: number): number {
    return this.#entries.findLast((entry) => entry.afterMs < timeMs)?.seq ?? 0;
  }

  #body(writer: number, n: number): Buffer {
    const key = `${writer}/${n}`;
    const known = this.#digests.get(key) ?? bodyOf(this.#bank, writer, n);
    this.#digests.set(key, known);
    return known;
  }
}

/** The number of the last transaction in a bank's database, and the digest of all its rows. */
export function bankDigest(path: string): { seq: number; digest: string } {
  const database = new Database(path, { readonly: true, fileMustExist: true, timeout: 5000 });
  try {
    return database.transaction(() => {
      const seq = Number(database.prepare("SELECT seq FROM head").pluck().get());
      const hash = createHash("sha256").update(`head ${seq}\n`);
      const entries = database.prepare<[], JournalEntry & { body: Buffer }>("SELECT * FROM entries ORDER BY seq");
      for (const row of entries.iterate()) hash.update(`${row.seq} ${row.writer} ${row.n} `).update(row.body);
      const accounts = database.prepare<[], { id: number; balance: number }>("SELECT * FROM accounts ORDER BY id");
      for (const { id, balance } of accounts.iterate()) hash.update(`account ${id} ${balance}\n`);
      return { seq, digest: hash.digest("hex") };
    })();
  } finally {
    database.close();
  }
}
