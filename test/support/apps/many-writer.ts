// A program under test: an application with many databases. It writes to them at random, some held open, some opened for
// each write, and empties a WAL now and then.
// node many-writer.ts OPERATIONS SEED DIRECTORY COUNT      (db-0.db … in DIRECTORY, made when they are not there)
import path from "node:path";

import Database from "better-sqlite3";

const HELD_OPEN = 20;
const [operations = 0, seed = 0] = process.argv.slice(2, 4).map(Number);
const directory = process.argv[4] ?? ".";
const count = Number(process.argv[5]);
const open = new Map<string, Database.Database>();
let state = seed;
let stopped = false;

/** 0 <= x < below: a linear congruential generator, good enough to spread writes. */
function random(below: number): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
}

function connectionOf(file: string): Database.Database {
  const known = open.get(file);
  if (known) return known;
  const database = new Database(file, { timeout: 10_000 });
  database.pragma("journal_mode=WAL");
  database.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body BLOB)");
  open.set(file, database);
  return database;
}

function write(file: string): void {
  const database = connectionOf(file);
  database.exec(`INSERT INTO t (body) VALUES (randomblob(${100 + random(3000)}))`);
  const dice = random(10);
  if (dice === 0) database.pragma("wal_checkpoint(TRUNCATE)");
  if (dice > 6) close(file);
  const [oldest] = open.keys();
  if (open.size > HELD_OPEN && oldest !== undefined) close(oldest);
}

function close(file: string): void {
  open.get(file)?.close();
  open.delete(file);
}

process.on("SIGTERM", () => (stopped = true));
process.stdout.write("writing\n");
let written = 0;
for (; written < operations && !stopped; written += 1) {
  write(path.join(directory, `db-${random(count)}.db`));
  if (written % 8 === 7) await new Promise((resolve) => setImmediate(resolve));
}
process.stdout.write(`${JSON.stringify({ written })}\n`);
process.exit(0);
