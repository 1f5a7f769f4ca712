import fs from "node:fs";
import path from "node:path";

import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";

import type { Offset } from "../../src/event/positions.ts";
import type { RestoreProgress } from "../../src/restore/carry-out.ts";
import { RestoreBench } from "./support/restore-bench.ts";

let bench: RestoreBench;
beforeEach(async () => {
  bench = await RestoreBench.open();
});
afterEach(async () => {
  await bench[Symbol.asyncDispose]();
});

/** SQL of one transaction each. */
const operation = fc.oneof(
  fc
    .integer({ min: 1, max: 40 })
    .map((rows) => `INSERT INTO t (body) SELECT randomblob(700) FROM generate_series(1, ${rows})`),
  fc.integer({ min: 2, max: 5 }).map((every) => `DELETE FROM t WHERE id % ${every} = 0`),
  fc.integer({ min: 2, max: 9 }).map((every) => `UPDATE t SET body = randomblob(900) WHERE id % ${every} = 1`),
  fc.constant("DELETE FROM t; VACUUM"),
  fc.constant("VACUUM"),
  fc.constant("CREATE TABLE IF NOT EXISTS u AS SELECT * FROM t; CREATE INDEX IF NOT EXISTS i ON t (body)"),
  // More pages than fit into one record.
  fc.constant("INSERT INTO t (body) SELECT zeroblob(300000) || randomblob(9) FROM generate_series(1, 4)"),
  fc.constant("copy"),
);

test.for([512, 1024, 4096, 16_384, 65_536])(
  "at every offset the restored file is the recorded one, page size %i",
  { timeout: 120_000 },
  async (pageSize) => {
    let run = 0;
    const property = async (operations: readonly string[]): Promise<void> => {
      run += 1;
      const name = `run-${run}.db`;
      const source = bench.source(name, pageSize);
      const history: { offset: Offset; image: Uint8Array }[] = [];
      const record = (offset: Offset): number => history.push({ offset, image: source.image });
      record(await bench.commit(source, "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)", { name }));
      for (const sql of operations) {
        if (sql === "copy") record(await bench.log.copy(name, source));
        else record(await bench.commit(source, series(sql), { name }));
      }
      await expectEveryOffset(name, history);
    };
    await fc.assert(fc.asyncProperty(fc.array(operation, { minLength: 3, maxLength: 7 }), property), {
      numRuns: 2,
      endOnFailure: true,
    });
  },
);

/** Also the offsets between: the parts of a transaction belong to the state before it. */
async function expectEveryOffset(
  name: string,
  history: readonly { offset: Offset; image: Uint8Array }[],
): Promise<void> {
  const first = history[0]?.offset ?? 0;
  const last = history.at(-1)?.offset ?? 0;
  for (let offset = first; offset <= last; offset += 1) {
    const expected = history.findLast((entry) => entry.offset <= offset);
    const target = bench.newTarget();
    const report = await bench.restore({ to: String(offset), target, databases: [name] });
    const file = fs.readFileSync(path.join(target, name));
    expect(Buffer.compare(file, expected?.image ?? new Uint8Array()), `offset ${offset}`).toBe(0);
    expect(report.databases).toMatchObject([{ name, offset: expected?.offset, integrity: "ok", foreignKeys: "ok" }]);
    expect(fs.readdirSync(target)).toEqual([name]);
    fs.rmSync(target, { recursive: true });
  }
}

/** better-sqlite3 has no generate_series. */
function series(sql: string): string {
  return sql.replace(
    /generate_series\(1, (\d+)\)/,
    "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n)",
  );
}

const TABLE = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body BLOB)";
const INSERT = "INSERT INTO t (body) VALUES (randomblob(3000))";

test("several databases, one asked for, directories in names", async () => {
  const a = bench.source("tenants/a.db");
  const b = bench.source("b.db", 1024);
  await bench.commit(a, TABLE, { name: "tenants/a.db" });
  await bench.commit(b, TABLE, { name: "b.db" });
  await bench.commit(a, INSERT, { name: "tenants/a.db" });
  const all = bench.newTarget();
  const report = await bench.restore({ target: all, check: "full" });
  expect(report.databases.map(({ name }) => name)).toEqual(["b.db", "tenants/a.db"]);
  expect(report).toMatchObject({ ok: true, files: { count: 0, bytes: 0 }, gaps: [] });
  expect(Buffer.compare(fs.readFileSync(path.join(all, "tenants/a.db")), a.image)).toBe(0);
  expect(Buffer.compare(fs.readFileSync(path.join(all, "b.db")), b.image)).toBe(0);
  const one = bench.newTarget();
  await bench.restore({ target: one, databases: ["b.db"] });
  expect(fs.readdirSync(one)).toEqual(["b.db"]);
  await expect(bench.restore({ databases: ["b.bd"] })).rejects.toMatchObject({
    code: "USAGE",
    message: expect.stringContaining("b.db"),
    hint: expect.stringContaining("tenants/a.db"),
  });
  expect(fs.readdirSync(path.join(bench.directory, "targets")).toSorted()).toEqual(
    [path.basename(all), path.basename(one)].toSorted(),
  );
});

test("the restored file is in WAL mode, opens, and its digest is its own", async () => {
  const source = bench.source();
  await bench.commit(source, `${TABLE}; ${INSERT}`);
  const target = bench.newTarget();
  const report = await bench.restore({ target });
  const file = path.join(target, "app.db");
  const bytes = fs.readFileSync(file);
  expect([bytes[18], bytes[19]]).toEqual([2, 2]);
  const { createHash } = await import("node:crypto");
  expect(report.databases[0]?.sha256).toBe(createHash("sha256").update(bytes).digest("hex"));
  expect(report.databases[0]?.checksum).toBe(bench.log.index("app.db")?.checksum.toString(16).padStart(16, "0"));
});

test("parts of a transaction that was never closed, and void ones before another, are not applied", async () => {
  const source = bench.source();
  await bench.commit(source, TABLE);
  const before = source.image;
  const part = {
    kind: "sqlite.part",
    database: "app.db",
    transaction: 900,
    sequence: 0,
    pageSize: 4096,
    pages: [{ pageNumber: 2, data: new Uint8Array(4096).fill(7) }],
  } as const;
  const unfinished = await bench.log.append([part]);
  const target = bench.newTarget();
  const report = await bench.restore({ to: String(unfinished), target });
  expect(report.offset).toBe(unfinished);
  expect(Buffer.compare(fs.readFileSync(path.join(target, "app.db")), before)).toBe(0);
  await bench.commit(source, INSERT);
  await bench.log.append([{ ...part, transaction: 901 }]);
  const later = bench.newTarget();
  await bench.restore({ target: later });
  expect(Buffer.compare(fs.readFileSync(path.join(later, "app.db")), source.image)).toBe(0);
});

test("progress runs to its end in every phase", async () => {
  const source = bench.source();
  await bench.commit(source, TABLE);
  for (let i = 0; i < 20; i += 1) await bench.commit(source, INSERT);
  const seen = new Map<string, RestoreProgress>();
  await bench.restore({ onProgress: (progress) => seen.set(progress.phase, progress) });
  for (const phase of ["write", "check", "verify"]) {
    const last = seen.get(phase);
    expect(last?.done, phase).toBe(last?.total);
    expect(last?.total).toBeGreaterThan(0);
  }
});

test.for(["plan", "write", "check", "verify"])("an abort during %s leaves nothing", async (phase) => {
  const source = bench.source();
  await bench.commit(source, TABLE);
  for (let i = 0; i < 1100; i += 1) await bench.log.append([{ kind: "mark", name: `m${i}` }]);
  const stop = new AbortController();
  const restoring = bench.restore({
    signal: stop.signal,
    onProgress: (progress) => {
      if (progress.phase === phase) stop.abort();
    },
  });
  await expect(restoring).rejects.toMatchObject({ code: "INTERRUPTED", exitCode: 130 });
  expect(bench.leftInTargets()).toEqual([]);
});
