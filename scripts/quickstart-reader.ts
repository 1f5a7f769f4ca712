/**
 * A reader of the standby: a process of its own that reads while Tidemark applies.
 * Usage: quickstart-reader.ts DATABASE shop RECEIPTS | DATABASE any
 * shop: are the books balanced, is the newest order's receipt there as its row says, and how old is that order when it is
 * first seen here? any: SQLite's quick_check.
 * Ends when its standard input closes. Prints one JSON line, a ReaderReport, every 500 ms.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import Database from "better-sqlite3";
import { booksStatement, imbalance, type Receipt } from "./quickstart-shop.ts";

export interface ReaderReport {
  readonly reads: number;
  readonly broken: number;
  /** What the first broken read saw. */
  readonly problem: string | undefined;
  readonly orders: number;
  /** From the moment the application placed an order until this reader saw it, since the last report. */
  readonly medianMs: number | undefined;
  readonly slowestMs: number | undefined;
}

const [databasePath = "", kind = "any", receiptsPath = ""] = process.argv.slice(2);
const database = new Database(databasePath, { readonly: true, fileMustExist: true });
database.pragma("busy_timeout = 5000");

let reads = 0;
let broken = 0;
let firstProblem: string | undefined;
let orders = 0;
let delaysMs: number[] = [];

function readShop(): () => string | undefined {
  const books = booksStatement(database);
  const receiptOf = database.prepare<[number], Receipt>("SELECT name, sha256 FROM receipt WHERE id = ?");
  const placed = database.prepare<[number], { placed_ms: number }>("SELECT placed_ms FROM orders WHERE id = ?");
  return database.transaction(() => {
    const seen = books.get();
    if (!seen) return "nothing to read";
    const newestMs = seen.newest > orders ? placed.get(seen.newest)?.placed_ms : undefined;
    if (newestMs !== undefined && orders > 0) delaysMs.push(Date.now() - newestMs);
    if (seen.orders < orders) return `went back from ${orders} to ${seen.orders} orders`;
    const isNew = seen.orders > orders;
    orders = seen.orders;
    return imbalance(seen) ?? (isNew ? mismatch(receiptOf.get(seen.newest)) : undefined);
  });
}

function mismatch(receipt: Receipt | undefined): string | undefined {
  if (!receipt) return "an order without its receipt";
  try {
    const found = createHash("sha256")
      .update(readFileSync(join(receiptsPath, receipt.name)))
      .digest("hex");
    return found === receipt.sha256 ? undefined : `${receipt.name} is not the file that its row tells of`;
  } catch (error) {
    return `${receipt.name}: the row is there, the file is not (${String(error)})`;
  }
}

function readAny(): () => string | undefined {
  return () => {
    const result = database.pragma("quick_check(1)", { simple: true });
    return result === "ok" ? undefined : String(result);
  };
}

function report(): ReaderReport {
  const sorted = delaysMs.toSorted((a, b) => a - b);
  delaysMs = [];
  const medianMs = sorted[Math.floor(sorted.length / 2)];
  return { reads, broken, problem: firstProblem, orders, medianMs, slowestMs: sorted.at(-1) };
}

let stopping = false;
process.stdin.resume().on("end", () => (stopping = true));

const read = kind === "shop" ? readShop() : readAny();
const pauseMs = kind === "shop" ? 5 : 500;
let reportedMs = Date.now();
while (!stopping) {
  const problem = read();
  reads += 1;
  if (problem !== undefined) broken += 1;
  firstProblem ??= problem;
  if (Date.now() - reportedMs >= 500) {
    reportedMs = Date.now();
    console.log(JSON.stringify(report()));
  }
  await wait(pauseMs);
}
console.log(JSON.stringify(report()));
database.close();
