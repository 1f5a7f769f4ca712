/**
 * An application that never stops writing: node app.ts DB RATE SEED. Until SIGTERM it commits RATE times a second: rows
 * all over the database are rewritten, one is added. Each second a line of JSON: { atMs, commits, worstMs, busy }.
 */
import Database from "better-sqlite3";

const ROW_BYTES = 3500;
const UPDATES_A_COMMIT = 3;
const [file = "", rate = "100", seed = "1"] = process.argv.slice(2);
const db = new Database(file, { timeout: 30_000, fileMustExist: true });
db.pragma("synchronous=NORMAL");
const rows = Number(db.prepare("SELECT max(id) FROM t").pluck().get());
const update = db.prepare("UPDATE t SET body = randomblob(?) WHERE id = ?");
const insert = db.prepare("INSERT INTO t (body) VALUES (randomblob(?))");
let state = Number(seed);

function nextRow(): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
  return 1 + Math.floor(((state >>> 0) / 2 ** 32) * rows);
}

const commit = db.transaction(() => {
  for (let i = 0; i < UPDATES_A_COMMIT; i += 1) update.run(ROW_BYTES, nextRow());
  insert.run(ROW_BYTES);
});

let second = { commits: 0, worstMs: 0, busy: 0 };
let stopped = false;
process.on("SIGTERM", () => (stopped = true));
const report = setInterval(() => {
  process.stdout.write(`${JSON.stringify({ atMs: Date.now(), ...second })}\n`);
  second = { commits: 0, worstMs: 0, busy: 0 };
}, 1000);
const startedMs = performance.now();
for (let n = 1; !stopped; n += 1) {
  const beganMs = performance.now();
  try {
    commit.immediate();
    second.commits += 1;
  } catch (error) {
    if (!(error instanceof Database.SqliteError) || !error.code.startsWith("SQLITE_BUSY")) throw error;
    second.busy += 1;
  }
  second.worstMs = Math.max(second.worstMs, performance.now() - beganMs);
  const dueMs = startedMs + (n * 1000) / Number(rate);
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, dueMs - performance.now())));
}
clearInterval(report);
process.stdout.write(`${JSON.stringify({ atMs: Date.now(), ...second })}\n`);
db.close();
