import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import Database from "better-sqlite3";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  compareReceipts,
  compareRows,
  compareWithJournal,
  digestFiles,
  digestOf,
  readJournal,
  readShop,
} from "../../scripts/quickstart-compare.ts";
import { booksStatement, contentsAfter, imbalance } from "../../scripts/quickstart-shop.ts";
import { waitFor } from "../support/wait.ts";

const APP = resolve(import.meta.dirname, "../../scripts/quickstart-app.ts");

let directory = "";
let database = "";
let journalPath = "";
let receipts = "";

/** A closed shop with some twenty orders, and what the application wrote down. */
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "tidemark-proof-"));
  database = join(directory, "shop.db");
  journalPath = join(directory, "journal");
  receipts = join(directory, "receipts");
  const app = spawn(process.execPath, [APP, database, journalPath, receipts], { stdio: ["pipe", "ignore", "inherit"] });
  await waitFor("twenty orders", async () => (await readFile(journalPath, "utf8")).split("\n").length > 20);
  app.stdin.end();
  await once(app, "close");
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** A copy with `sql` done to it. */
function tampered(name: string, sql: string): string {
  const path = join(directory, name);
  using source = disposable(new Database(database, { readonly: true }));
  source.value.exec(`VACUUM INTO '${path}'`);
  using copy = disposable(new Database(path));
  copy.value.pragma("foreign_keys = OFF");
  copy.value.exec(sql);
  return path;
}

const disposable = (value: Database.Database): Disposable & { readonly value: Database.Database } => ({
  value,
  [Symbol.dispose]: () => value.close(),
});

test("the journal tells every row of the shop", () => {
  const journal = readJournal(journalPath);
  const found = compareRows(contentsAfter(journal, journal.length), readShop(database));
  expect(found.differences).toEqual([]);
  expect(found.rows).toBeGreaterThan(60);
});

test("a changed value, a missing row and an extra row are found", () => {
  const journal = readJournal(journalPath);
  const differencesAfter = (name: string, sql: string): number =>
    compareWithJournal(tampered(name, sql), journal, Date.now()).differences.length;
  expect(differencesAfter("value.db", "UPDATE order_line SET amount = amount + 1 WHERE id = 3")).toBe(1);
  expect(differencesAfter("missing.db", "DELETE FROM order_line WHERE id = (SELECT max(id) FROM order_line)")).toBe(1);
  expect(differencesAfter("extra.db", "INSERT INTO customer VALUES (999, 0)")).toBe(1);
});

test("an earlier state counts as the orders it holds, with its distance from the moment", () => {
  const journal = readJournal(journalPath);
  const last = journal.length;
  const undo = `
    UPDATE customer SET balance = balance + (SELECT total FROM orders WHERE id = ${last})
      WHERE id = (SELECT customer_id FROM orders WHERE id = ${last});
    UPDATE till SET revenue = revenue - (SELECT total FROM orders WHERE id = ${last});
    DELETE FROM order_line WHERE order_id = ${last};
    DELETE FROM receipt WHERE id = ${last};
    DELETE FROM orders WHERE id = ${last};`;
  const moment = (journal[last - 1]?.committedMs ?? 0) - 1;
  const found = compareWithJournal(tampered("earlier.db", undo), journal, moment);
  expect(found).toMatchObject({ differences: [], orders: last - 1, nextAfterMs: 1 });
  expect(found.lastBeforeMs).toBeGreaterThan(0);
});

test("the reader's invariant notices half a transaction", () => {
  const imbalanceAfter = (name: string, sql: string): string | undefined => {
    using copy = disposable(new Database(tampered(name, sql)));
    const books = booksStatement(copy.value).get();
    return books && imbalance(books);
  };
  expect(imbalanceAfter("whole.db", "SELECT 1")).toBeUndefined();
  expect(imbalanceAfter("till.db", "UPDATE till SET revenue = revenue + 1")).toMatch(/money is missing/);
  expect(imbalanceAfter("line.db", "DELETE FROM order_line WHERE id = 1")).toMatch(/order lines add up/);
  expect(imbalanceAfter("gap.db", "UPDATE orders SET id = 100000 WHERE id = (SELECT max(id) FROM orders)")).toMatch(
    /the newest is number/,
  );
});

test("the digest of a database tells one changed byte, and not the file's layout", () => {
  expect(digestOf(tampered("same.db", "SELECT 1")).sha256).toBe(digestOf(database).sha256);
  const changed = "UPDATE order_line SET product = 'Tea' WHERE id = 1";
  expect(digestOf(tampered("changed.db", changed)).sha256).not.toBe(digestOf(database).sha256);
});

test("a row whose file is missing or has another content is found, and a file without a row is told", async () => {
  const files = compareReceipts(database, receipts);
  expect(files).toMatchObject({ differences: [], withoutRow: [] });
  expect(files.files).toBeGreaterThan(10);
  const copy = join(directory, "tampered");
  await cp(receipts, copy, { recursive: true });
  expect(digestFiles(copy)).toEqual(digestFiles(receipts));
  await rename(join(copy, "order-3.txt"), join(copy, "order-3.old"));
  await writeFile(join(copy, "order-4.txt"), "another");
  expect(compareReceipts(database, copy)).toMatchObject({
    differences: ["order-3.txt: the row is there, the file is not", "order-4.txt: another content than its row says"],
    withoutRow: ["order-3.old"],
  });
});
