/**
 * The application whose commits are replayed: single-row updates of random rows of the table `small`, each a commit.
 *   node updates.ts DB COUNT RATE
 */
import Database from "better-sqlite3";

import { pauseMs } from "./measure.ts";

const [file = "", count = "", rate = ""] = process.argv.slice(2);
const db = new Database(file, { timeout: 30_000 });
db.pragma("synchronous=NORMAL");
const rows = Number(db.prepare("SELECT max(n) FROM small").pluck().get());
const update = db.prepare("UPDATE small SET changes = changes + 1, note = hex(randomblob(20)) WHERE n = ?");
const startedMs = performance.now();
for (let n = 1; n <= Number(count); n += 1) {
  update.run(1 + Math.floor(Math.random() * rows));
  pauseMs(startedMs + (n * 1000) / Number(rate) - performance.now());
}
db.close();
