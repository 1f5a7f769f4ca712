/**
 * Watches a table grow on a standby: node reader.ts DB LAST OUT. Ends when row LAST is there. Writes to OUT, as pairs of
 * float64, each row number that became the newest and the monotonic time (ns) at which it was first read.
 */
import fs from "node:fs";

import Database from "better-sqlite3";

import { pauseMs } from "./measure.ts";

const [file = "", out = ""] = process.argv.slice(2);
const db = new Database(file, { readonly: true });
const newest = db.prepare("SELECT max(n) FROM bench").pluck();
const seen: number[] = [];
let last = Number(newest.get() ?? 0);
let stopping = false;
process.on("SIGTERM", () => (stopping = true));
process.stdout.write("reading\n");
for (let look = 0; !stopping; look += 1) {
  const now = Number(newest.get() ?? 0);
  if (now > last) {
    seen.push(now, Number(process.hrtime.bigint()));
    last = now;
  }
  // Mostly asleep, so that watching does not take the processor from what is watched.
  pauseMs(0.25);
  if (look % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
}
fs.writeFileSync(out, new Float64Array(seen));
