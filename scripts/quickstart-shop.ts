/**
 * The sample application's data: a small shop whose books must balance at every commit, and a receipt of every newer order
 * as a file beside the database, whose row holds its hash.
 */
import type Database from "better-sqlite3";

export const CUSTOMERS = 20;
/** So many receipts are kept: an older one's row is deleted, then its file. */
export const KEPT_RECEIPTS = 200;
const OPENING_BALANCE = 1_000_000;

export interface OrderLine {
  readonly id: number;
  readonly orderId: number;
  readonly product: string;
  readonly amount: number;
}

/** A row that stands for a file. */
export interface Receipt {
  readonly name: string;
  /** Of the file, hex. */
  readonly sha256: string;
}

/** One committed transaction, as the application itself wrote it down. */
export interface JournalEntry {
  readonly order: {
    readonly id: number;
    readonly customerId: number;
    readonly total: number;
    readonly placedMs: number;
  };
  readonly lines: readonly OrderLine[];
  readonly receipt: Receipt;
  /** Balance of that customer and the till after this commit. */
  readonly balance: number;
  readonly revenue: number;
  /** Read from the clock before BEGIN and after COMMIT returned. */
  readonly beganMs: number;
  readonly committedMs: number;
}

export type Row = readonly (string | number | null)[];
/** Rows of every table in primary key order. */
export type Contents = ReadonlyMap<string, readonly Row[]>;

const SCHEMA = `
  CREATE TABLE customer (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
  CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customer, total INTEGER NOT NULL, placed_ms INTEGER NOT NULL);
  CREATE TABLE order_line (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES orders, product TEXT NOT NULL, amount INTEGER NOT NULL);
  CREATE TABLE receipt (id INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL);
  CREATE TABLE till (id INTEGER PRIMARY KEY CHECK (id = 1), revenue INTEGER NOT NULL);
`;

export function createShop(database: Database.Database): void {
  database.pragma("journal_mode = WAL");
  database.transaction(() => {
    database.exec(SCHEMA);
    const addCustomer = database.prepare("INSERT INTO customer VALUES (?, ?)");
    for (let id = 1; id <= CUSTOMERS; id += 1) addCustomer.run(id, OPENING_BALANCE);
    database.exec("INSERT INTO till VALUES (1, 0)");
  })();
}

const BOOKS = `
  SELECT (SELECT sum(balance) FROM customer) AS balances, (SELECT revenue FROM till) AS revenue,
         (SELECT coalesce(sum(total), 0) FROM orders) AS totals, (SELECT coalesce(sum(amount), 0) FROM order_line) AS amounts,
         (SELECT count(*) FROM orders) AS orders, (SELECT coalesce(max(id), 0) FROM orders) AS newest`;

export interface Books {
  readonly balances: number;
  readonly revenue: number;
  readonly totals: number;
  readonly amounts: number;
  readonly orders: number;
  readonly newest: number;
}

/** One statement, so one snapshot. */
export const booksStatement = (database: Database.Database): Database.Statement<[], Books> =>
  database.prepare<[], Books>(BOOKS);

/** What half a transaction would break; undefined when the books balance. */
export function imbalance(books: Books): string | undefined {
  const { balances, revenue, totals, amounts, orders, newest } = books;
  if (balances + revenue !== CUSTOMERS * OPENING_BALANCE) return `money is missing: ${balances} + ${revenue}`;
  if (totals !== revenue) return `orders add up to ${totals}, the till holds ${revenue}`;
  if (amounts !== totals) return `order lines add up to ${amounts}, orders to ${totals}`;
  return orders === newest ? undefined : `${orders} orders, but the newest is number ${newest}`;
}

/** What the database holds after the first `commits` entries of the journal, and nothing else. */
export function contentsAfter(journal: readonly JournalEntry[], commits: number): Contents {
  const kept = journal.slice(0, commits);
  const balances = new Map(Array.from({ length: CUSTOMERS }, (_, index) => [index + 1, OPENING_BALANCE]));
  for (const entry of kept) balances.set(entry.order.customerId, entry.balance);
  return new Map<string, readonly Row[]>([
    ["customer", [...balances]],
    [
      "order_line",
      kept.flatMap(({ lines }) => lines.map((line) => [line.id, line.orderId, line.product, line.amount])),
    ],
    ["orders", kept.map(({ order }) => [order.id, order.customerId, order.total, order.placedMs])],
    ["receipt", receiptsOf(kept).map(({ id, receipt }) => [id, receipt.name, receipt.sha256])],
    ["till", [[1, kept.at(-1)?.revenue ?? 0]]],
  ]);
}

function receiptsOf(journal: readonly JournalEntry[]): { id: number; receipt: Receipt }[] {
  return journal.slice(-KEPT_RECEIPTS).map(({ order, receipt }) => ({ id: order.id, receipt }));
}
