import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";

import type { SqliteCommit } from "../../src/event/kinds.ts";
import { ImagedDatabase } from "../support/database-images.ts";
import { RestoreBench } from "./support/restore-bench.ts";

let bench: RestoreBench;
let source: ImagedDatabase;
beforeEach(async () => {
  bench = await RestoreBench.open();
  source = bench.source();
});
afterEach(async () => {
  await bench[Symbol.asyncDispose]();
});

const TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)";
const INSERT = "INSERT INTO t (body) VALUES (randomblob(3000))";

/** Changes one stored record under the log. */
function damage(at: number, change: (data: Buffer) => void): void {
  const store = new Database(path.join(bench.directory, "log", "log.db"), { timeout: 5000 });
  try {
    const data = store.prepare<[number], Buffer>("SELECT data FROM record WHERE offset = ?").pluck().get(at);
    if (!data) throw new Error(`no record ${at}`);
    change(data);
    store.prepare("UPDATE record SET data = ? WHERE offset = ?").run(data, at);
  } finally {
    store.close();
  }
}

test("a flipped bit anywhere in any record is an error that names it, and nothing is handed over", async () => {
  const first = await bench.commit(source, TABLE);
  const big = await bench.commit(source, "INSERT INTO t (body) SELECT randomblob(900000)");
  const last = await bench.commit(source, INSERT);
  expect(big).toBeGreaterThan(first + 1);
  for (let at: number = first; at <= last; at += 1) {
    for (const part of [0.001, 0.4, 0.999]) {
      let position = 0;
      const flip = (data: Buffer): void => {
        position = Math.floor(data.length * part);
        data[position] = (data[position] ?? 0) ^ 0x10;
      };
      damage(at, flip);
      const restoring = bench.restore();
      await expect(restoring, `record ${at} byte ${position}`).rejects.toMatchObject({
        name: "TidemarkError",
        code: expect.stringMatching(/^(RECORD_INVALID|RECORD_VERSION|LOG_CORRUPT|CHECKSUM_MISMATCH)$/),
        message: expect.stringMatching(new RegExp(`\\b(${at}|${at + 1})\\b`)),
      });
      damage(at, flip);
    }
  }
  expect(bench.leftInTargets()).toEqual([]);
  await bench.restore();
});

test("damage behind the target is no reason to refuse it", async () => {
  const good = await bench.commit(source, TABLE);
  const bad = await bench.commit(source, INSERT);
  damage(bad, (data) => data.fill(0, 100));
  expect(await bench.restore({ to: String(good) })).toMatchObject({ offset: good });
});

test.for(["before", "after"] as const)("a commit whose checksum %s is wrong is named", async (side) => {
  await bench.commit(source, TABLE);
  source.connection.exec(INSERT);
  const change = { pages: source.changes(), cause: "commit" as const, database: source };
  const bodies = bench.log.commitBodies("app.db", change);
  const wrong = bodies.map((body) =>
    body.kind === "sqlite.commit" ? ({ ...body, [side]: body[side] ^ 1n } satisfies SqliteCommit) : body,
  );
  const at = await bench.log.append(wrong);
  await bench.log.append([{ kind: "mark", name: "later" }]);
  await expect(bench.restore()).rejects.toMatchObject({
    code: "CHECKSUM_MISMATCH",
    exitCode: 4,
    message: expect.stringMatching(new RegExp(`app.db at offset ${at}: the checksum ${side}`)),
  });
  expect(bench.leftInTargets()).toEqual([]);
});

test("a transaction whose parts are not all there is refused", async () => {
  await bench.commit(source, TABLE);
  source.connection.exec("INSERT INTO t (body) SELECT randomblob(900000)");
  const bodies = bench.log.commitBodies("app.db", { pages: source.changes(), cause: "commit", database: source });
  const at = await bench.log.append(bodies.slice(1));
  await expect(bench.restore()).rejects.toMatchObject({
    code: "RECORD_INVALID",
    message: expect.stringContaining("not whole"),
  });
  await expect(bench.restore({ to: String(at) })).rejects.toMatchObject({ code: "RECORD_INVALID" });
  expect(bench.leftInTargets()).toEqual([]);
});

test("a disk that does not give back what was written is found out", async () => {
  await bench.commit(source, `${TABLE}; ${INSERT}`);
  const target = bench.newTarget();
  const restoring = bench.restore({
    target,
    onProgress: ({ phase, done, total }) => {
      if (phase !== "check" || done !== total) return;
      const parent = path.dirname(target);
      const work = fs.readdirSync(parent).find((name) => name.includes("tidemark-restore-")) ?? "";
      const file = fs.openSync(path.join(parent, work, "new", "app.db"), "r+");
      fs.writeSync(file, Buffer.from([1]), 0, 1, 4096 * 2 + 2000);
      fs.closeSync(file);
    },
  });
  await expect(restoring).rejects.toMatchObject({
    code: "CHECKSUM_MISMATCH",
    message: expect.stringContaining("read back"),
  });
  expect(bench.leftInTargets()).toEqual([]);
});

test("a name that leaves the target is refused", async () => {
  source.connection.exec(TABLE);
  await bench.log.ship("../outside.db", source);
  await expect(bench.restore()).rejects.toMatchObject({
    code: "RECORD_INVALID",
    message: expect.stringContaining("../outside.db"),
  });
  expect(bench.leftInTargets()).toEqual([]);
  expect(fs.existsSync(path.join(bench.directory, "outside.db"))).toBe(false);
});

test("a database larger than the disk is refused before anything is written", async () => {
  await bench.commit(source, TABLE);
  const [commit] = bench.log.commitBodies("app.db", { pages: [], cause: "commit", database: source });
  if (commit?.kind !== "sqlite.commit") throw new Error("no commit");
  await bench.log.append([{ ...commit, sizePages: 2 ** 32 - 2 }]);
  await expect(bench.restore()).rejects.toMatchObject({
    code: "DISK_FULL",
    message: expect.stringMatching(/needs 167772\d\d\.\d MiB, \d+\.\d MiB are free/),
  });
  expect(bench.leftInTargets()).toEqual([]);
});

test("damage that was on the primary is told as such, and the result is kept aside", async () => {
  await bench.commit(source, `${TABLE}; CREATE INDEX i ON t (body); ${INSERT}`);
  // An index without its entries: well-formed pages that contradict the table.
  source.connection.unsafeMode(true);
  source.connection.pragma("writable_schema=ON");
  source.connection.exec(
    "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 't') WHERE name = 'i'",
  );
  await bench.log.ship("app.db", source);
  const target = bench.newTarget();
  await expect(bench.restore({ target, check: "full" })).rejects.toMatchObject({
    code: "INTEGRITY",
    exitCode: 4,
    hint: expect.stringContaining(`${target}.unverified`),
  });
  expect(fs.existsSync(target)).toBe(false);
  const kept = fs.readFileSync(path.join(`${target}.unverified`, "app.db"));
  expect(Buffer.compare(kept, source.image)).toBe(0);
  expect(bench.leftInTargets()).toEqual([
    path.basename(`${target}.unverified`),
    path.join(path.basename(`${target}.unverified`), "app.db"),
  ]);
});

test("foreign keys that the application broke are counted, and are no failure", async () => {
  source.connection.pragma("foreign_keys=OFF");
  await bench.commit(
    source,
    "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p); INSERT INTO c VALUES (1), (2)",
  );
  const report = await bench.restore({ check: "full" });
  expect(report.databases).toMatchObject([{ integrity: "ok", foreignKeys: "2 violations" }]);
});

test("an index over a collation of the application's own is no damage", async () => {
  const plain = new ImagedDatabase(path.join(bench.directory, "primary", "collated.db"), 4096);
  try {
    plain.connection.exec("CREATE TABLE c (word TEXT); CREATE INDEX ci ON c (word); INSERT INTO c VALUES ('a'), ('b')");
    plain.connection.unsafeMode(true);
    plain.connection.pragma("writable_schema=ON");
    plain.connection.exec(
      "UPDATE sqlite_schema SET sql = 'CREATE INDEX ci ON c (word COLLATE house_order)' WHERE name = 'ci'",
    );
    await bench.log.ship("collated.db", plain);
  } finally {
    plain.close();
  }
  const report = await bench.restore({ check: "full" });
  expect(report.databases[0]?.integrity).toMatch(/not fully checked: no such collation sequence: house_order/);
});
