import { ImagedDatabase } from "./database-images.ts";

/**
 * What standby-reader.py checks: balances that always add up to 100,000, and two counters that are always equal and
 * count the transactions.
 */
export class BankDatabase extends ImagedDatabase {
  #n = 0;

  constructor(path: string, pageSize = 4096) {
    super(path, pageSize);
    this.connection.exec(`
      CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, note TEXT);
      CREATE TABLE counter_one (n INTEGER NOT NULL);
      CREATE TABLE filler (id INTEGER PRIMARY KEY, body BLOB);
      CREATE TABLE counter_two (n INTEGER NOT NULL);
      INSERT INTO counter_one VALUES (0);
      INSERT INTO counter_two VALUES (0);
      WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100)
      INSERT INTO account SELECT i, 1000, printf('%.*c', 400, 'x') FROM c;`);
  }

  get transactions(): number {
    return this.#n;
  }

  /** One transaction: a transfer, both counters, rows that come and go, now and then a VACUUM after it. */
  transact(): void {
    this.#n += 1;
    const n = this.#n;
    const from = (n * 7) % 100;
    const to = (n * 13 + 50) % 100;
    this.connection.transaction(() => {
      this.connection.prepare("UPDATE account SET balance = balance - 10 WHERE id = ? + 1").run(from);
      this.connection.prepare("UPDATE counter_one SET n = ?").run(n);
      this.connection.prepare("INSERT INTO filler (body) VALUES (randomblob(? * 100))").run(n % 60);
      if (n % 40 === 0) this.connection.exec("DELETE FROM filler");
      this.connection.prepare("UPDATE counter_two SET n = ?").run(n);
      this.connection.prepare("UPDATE account SET balance = balance + 10 WHERE id = ? + 1").run(to);
    })();
    if (n % 160 === 0) this.connection.exec("VACUUM");
  }
}
