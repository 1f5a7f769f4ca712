/**
 * The sample application of docker-compose.yml: about two orders a second into an SQLite database in WAL mode. It knows
 * nothing of Tidemark. Usage: app.ts DATABASE, until SIGTERM. One line a minute says how many orders it holds.
 */
import { setTimeout as wait } from "node:timers/promises";
import Database from "better-sqlite3";

const PAUSE_MS = 500;
const REPORT_EVERY = 120;
/** Older ones are archived, so that the sample does not fill the disk. */
const KEPT_ORDERS = 50_000;
const PRODUCTS = ["tea", "bread", "apples", "cheese", "honey", "ink", "paper", "rope"];

const [databasePath = ""] = process.argv.slice(2);
const database = new Database(databasePath);
database.pragma("journal_mode = WAL");
database.pragma("busy_timeout = 5000");
database.exec(`
  CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT, product TEXT NOT NULL, amount INTEGER NOT NULL, placed_ms INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS till (id INTEGER PRIMARY KEY CHECK (id = 1), orders INTEGER NOT NULL, revenue INTEGER NOT NULL);
  INSERT OR IGNORE INTO till VALUES (1, 0, 0);
`);

const statements = {
  order: database.prepare("INSERT INTO orders (product, amount, placed_ms) VALUES (?, ?, ?)"),
  earn: database.prepare<[number], { orders: number }>(
    "UPDATE till SET orders = orders + 1, revenue = revenue + ? WHERE id = 1 RETURNING orders",
  ),
  forget: database.prepare("DELETE FROM orders WHERE id <= ?"),
};

/** One transaction over two tables: whoever sees a part of it sees a till that does not fit the orders. */
const takeOrder = database.transaction((): number => {
  const product = PRODUCTS[Math.floor(Math.random() * PRODUCTS.length)] ?? "tea";
  const amount = 100 + Math.floor(Math.random() * 900);
  statements.order.run(product, amount, Date.now());
  const { orders = 0 } = statements.earn.get(amount) ?? {};
  statements.forget.run(orders - KEPT_ORDERS);
  return orders;
});

const stopping = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => stopping.abort());

while (!stopping.signal.aborted) {
  const orders = takeOrder.immediate();
  if (orders % REPORT_EVERY === 1) console.log(`${orders} orders taken`);
  await wait(PAUSE_MS, undefined, { signal: stopping.signal }).catch(() => undefined);
}
database.close();
