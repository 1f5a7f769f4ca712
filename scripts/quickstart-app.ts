/**
 * The sample application: a process of its own that takes about 50 orders a second and knows nothing of Tidemark.
 * After each COMMIT it writes down in its journal what it committed and when. Usage: quickstart-app.ts DATABASE JOURNAL
 * Ends when its standard input closes. Prints one JSON line {"orders": N} every 200 ms.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import Database from "better-sqlite3";
import { createShop, CUSTOMERS, type JournalEntry, type OrderLine } from "./quickstart-shop.ts";

const PAUSE_MS = 18;
const PRODUCTS = ["tea", "bread", "apples", "cheese", "honey", "ink", "paper", "rope"];

const [databasePath = "", journalPath = ""] = process.argv.slice(2);
const database = new Database(databasePath);
database.pragma("busy_timeout = 5000");
database.pragma("foreign_keys = ON");
createShop(database);
const journal = openSync(journalPath, "a");

const statements = {
  order: database.prepare("INSERT INTO orders VALUES (?, ?, ?, ?)"),
  line: database.prepare("INSERT INTO order_line VALUES (?, ?, ?, ?)"),
  charge: database.prepare<[number, number], { balance: number }>(
    "UPDATE customer SET balance = balance - ? WHERE id = ? RETURNING balance",
  ),
  earn: database.prepare<[number], { revenue: number }>(
    "UPDATE till SET revenue = revenue + ? WHERE id = 1 RETURNING revenue",
  ),
};

const anyOf = (count: number): number => Math.floor(Math.random() * count);
let lastLineId = 0;

function newLines(orderId: number): OrderLine[] {
  return Array.from({ length: 1 + anyOf(4) }, () => ({
    id: ++lastLineId,
    orderId,
    product: PRODUCTS[anyOf(PRODUCTS.length)] ?? "tea",
    amount: 100 + anyOf(900),
  }));
}

/** One transaction over four tables: anyone who sees only part of it sees books that do not balance. */
const commitOrder = database.transaction((order: JournalEntry["order"], lines: readonly OrderLine[]) => {
  statements.order.run(order.id, order.customerId, order.total, order.placedMs);
  for (const line of lines) statements.line.run(line.id, line.orderId, line.product, line.amount);
  const balance = statements.charge.get(order.total, order.customerId)?.balance ?? 0;
  const revenue = statements.earn.get(order.total)?.revenue ?? 0;
  return { balance, revenue };
});

function takeOrder(id: number): JournalEntry {
  const lines = newLines(id);
  const total = lines.reduce((sum, line) => sum + line.amount, 0);
  const beganMs = Date.now();
  const order = { id, customerId: 1 + anyOf(CUSTOMERS), total, placedMs: beganMs };
  const after = commitOrder.immediate(order, lines);
  return { order, lines, ...after, beganMs, committedMs: Date.now() };
}

let stopping = false;
process.stdin.resume().on("end", () => (stopping = true));

let orders = 0;
let reportedMs = 0;
while (!stopping) {
  orders += 1;
  const entry = takeOrder(orders);
  writeSync(journal, `${JSON.stringify(entry)}\n`);
  if (entry.committedMs - reportedMs >= 200) {
    reportedMs = entry.committedMs;
    console.log(JSON.stringify({ orders }));
  }
  await wait(PAUSE_MS);
}
closeSync(journal);
database.close();
console.log(JSON.stringify({ orders }));
