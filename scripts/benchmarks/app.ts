/**
 * The application that is measured: one process, one SQLite database in WAL mode.
 *   node app.ts DB SECONDS [--rate N] [--autocheckpoint N] [--truncate-every N] [--row-bytes N] [--rows N] [--times FILE]
 * Prints one JSON line: commits, BUSY errors, commit latency. With --times each commit's number and the monotonic time
 * at which COMMIT returned (ns, the same clock in all processes of a machine) go to FILE as pairs of float64.
 */
import fs from "node:fs";
import { parseArgs } from "node:util";

import Database from "better-sqlite3";

import { pauseMs, quantiles } from "./measure.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rate: { type: "string", default: "0" },
    autocheckpoint: { type: "string", default: "1000" },
    "truncate-every": { type: "string", default: "0" },
    "row-bytes": { type: "string", default: "200" },
    rows: { type: "string", default: "1" },
    times: { type: "string" },
  },
});
const [file = "", seconds = "5"] = positionals;
const rate = Number(values.rate);
const truncateEvery = Number(values["truncate-every"]);

const db = new Database(file, { timeout: 30_000 });
db.pragma("journal_mode=WAL");
db.pragma("synchronous=NORMAL");
db.pragma(`wal_autocheckpoint=${values.autocheckpoint}`);
db.exec("CREATE TABLE IF NOT EXISTS bench (n INTEGER PRIMARY KEY, writer INTEGER, v BLOB)");
const insert = db.prepare("INSERT INTO bench (writer, v) VALUES (?, randomblob(?))");
const commitOne = db.transaction(() => {
  let last: number | bigint = 0;
  for (let i = 0; i < Number(values.rows); i += 1) {
    last = insert.run(process.pid, Number(values["row-bytes"])).lastInsertRowid;
  }
  return Number(last);
});

const latenciesMs: number[] = [];
const times: number[] = [];
let busy = 0;
let worstStallMs = 0;
const startedMs = performance.now();
for (let n = 1; performance.now() - startedMs < Number(seconds) * 1000; n += 1) {
  const beganMs = performance.now();
  try {
    const last = commitOne.immediate();
    times.push(last, Number(process.hrtime.bigint()));
    if (truncateEvery > 0 && n % truncateEvery === 0) db.pragma("wal_checkpoint(TRUNCATE)");
  } catch (error) {
    if (!(error instanceof Database.SqliteError) || !error.code.startsWith("SQLITE_BUSY")) throw error;
    busy += 1;
  }
  const tookMs = performance.now() - beganMs;
  latenciesMs.push(tookMs);
  worstStallMs = Math.max(worstStallMs, tookMs);
  if (rate > 0) pauseMs(Math.max(0, startedMs + (n * 1000) / rate - performance.now()));
}
const elapsedMs = performance.now() - startedMs;
if (values.times) fs.writeFileSync(values.times, new Float64Array(times));
const commits = latenciesMs.length - busy;
process.stdout.write(
  `${JSON.stringify({ commits, perSecond: commits / (elapsedMs / 1000), busy, worstStallMs, ...quantiles(latenciesMs) })}\n`,
);
db.close();
