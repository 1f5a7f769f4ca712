/**
 * A look at the standby, for docker-compose.yml: how many orders are there, do they fit the till, and how old is the newest one?
 * Usage: reader.ts DATABASE, until SIGTERM. One line every five seconds; `docker compose logs -f reader` shows them.
 */
import { existsSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import Database from "better-sqlite3";

const EVERY_MS = 5_000;
const [databasePath = ""] = process.argv.slice(2);

interface Books {
  readonly newest: number | null;
  readonly placed_ms: number | null;
  readonly orders: number;
}

function look(): string {
  if (!existsSync(databasePath)) return "waiting for the standby's first copy";
  const database = new Database(databasePath, { readonly: true, timeout: 5_000 });
  try {
    // One statement is one snapshot.
    const { newest, placed_ms, orders } = database
      .prepare<[], Books>("SELECT max(orders.id) AS newest, placed_ms, till.orders AS orders FROM till, orders")
      .get() ?? { newest: 0, placed_ms: 0, orders: 0 };
    const fit = newest === orders ? "they fit the till" : `THE TILL SAYS ${orders}`;
    return `${newest ?? 0} orders on the standby, ${fit}, newest ${Date.now() - (placed_ms ?? 0)} ms old`;
  } finally {
    database.close();
  }
}

const stopping = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => stopping.abort());

while (!stopping.signal.aborted) {
  try {
    console.log(look());
  } catch (error) {
    // The copy is being made, or put into place: the next look shows it.
    console.log(`not readable yet: ${error instanceof Error ? error.message : String(error)}`);
  }
  await wait(EVERY_MS, undefined, { signal: stopping.signal }).catch(() => undefined);
}
