/**
 * The sample application: a process of its own that takes about 50 orders a second and knows nothing of Tidemark. It
 * writes each order's receipt into a file, then commits the order with the file's hash; an old receipt's row is deleted
 * first, then its file. After each COMMIT it writes down in its journal what it committed and when.
 * Usage: quickstart-app.ts DATABASE JOURNAL RECEIPTS
 * Ends when its standard input closes. Prints one JSON line {"orders": N} every 200 ms.
 */
import { createHash, randomBytes } from "node:crypto";
import { closeSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import Database from "better-sqlite3";
import {
  createShop,
  CUSTOMERS,
  type JournalEntry,
  KEPT_RECEIPTS,
  type OrderLine,
  type Receipt,
} from "./quickstart-shop.ts";

const PAUSE_MS = 18;
const PRODUCTS = ["tea", "bread", "apples", "cheese", "honey", "ink", "paper", "rope"];

const [databasePath = "", journalPath = "", receiptsPath = ""] = process.argv.slice(2);
const database = new Database(databasePath);
database.pragma("busy_timeout = 5000");
database.pragma("foreign_keys = ON");
createShop(database);
mkdirSync(receiptsPath, { recursive: true });
const journal = openSync(journalPath, "a");

const statements = {
  order: database.prepare("INSERT INTO orders VALUES (?, ?, ?, ?)"),
  line: database.prepare("INSERT INTO order_line VALUES (?, ?, ?, ?)"),
  receipt: database.prepare("INSERT INTO receipt VALUES (?, ?, ?)"),
  drop: database.prepare<[number], { name: string }>("DELETE FROM receipt WHERE id = ? RETURNING name"),
  charge: database.prepare<[number, number], { balance: number }>(
    "UPDATE customer SET balance = balance - ? WHERE id = ? RETURNING balance",
  ),
  earn: database.prepare<[number], { revenue: number }>(
    "UPDATE till SET revenue = revenue + ? WHERE id = 1 RETURNING revenue",
  ),
};

type NewOrder = Pick<JournalEntry, "order" | "lines" | "receipt">;

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

/** Some in place, some under another name first; most are small. */
function writeReceipt({ id, total }: JournalEntry["order"], lines: readonly OrderLine[]): Receipt {
  const name = `order-${id}.txt`;
  const text = lines.map(({ product, amount }) => `${product.padEnd(12)} ${amount}\n`).join("");
  const scan = id % 25 === 0 ? randomBytes(150_000).toString("hex") : "";
  const content = `Order ${id}\n${text}total ${total}\n${scan}`;
  const place = join(receiptsPath, name);
  const first = id % 2 === 0 ? `${place}.part` : place;
  writeFileSync(first, content);
  if (first !== place) renameSync(first, place);
  return { name, sha256: createHash("sha256").update(content).digest("hex") };
}

/** One transaction over five tables: anyone who sees only part of it sees books that do not balance. */
const commitOrder = database.transaction(({ order, lines, receipt }: NewOrder) => {
  statements.order.run(order.id, order.customerId, order.total, order.placedMs);
  for (const line of lines) statements.line.run(line.id, line.orderId, line.product, line.amount);
  statements.receipt.run(order.id, receipt.name, receipt.sha256);
  const dropped = statements.drop.get(order.id - KEPT_RECEIPTS)?.name;
  const balance = statements.charge.get(order.total, order.customerId)?.balance ?? 0;
  const revenue = statements.earn.get(order.total)?.revenue ?? 0;
  return { balance, revenue, dropped };
});

function takeOrder(id: number): JournalEntry {
  const lines = newLines(id);
  const total = lines.reduce((sum, line) => sum + line.amount, 0);
  const beganMs = Date.now();
  const order = { id, customerId: 1 + anyOf(CUSTOMERS), total, placedMs: beganMs };
  const receipt = writeReceipt(order, lines);
  const { dropped, ...after } = commitOrder.immediate({ order, lines, receipt });
  const committedMs = Date.now();
  if (dropped !== undefined) rmSync(join(receiptsPath, dropped));
  return { order, lines, receipt, ...after, beganMs, committedMs };
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
