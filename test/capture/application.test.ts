import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import type { SqliteCommit } from "../../src/event/kinds.ts";
import { Program } from "../support/apps/program.ts";
import { SqlSession, type SqlSessionOptions } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { waitFor } from "../support/wait.ts";

// What applications do, each under a running agent: nothing is missed, nothing is repaired that need not be, and the
// standby equals the primary page for page.

const LATE_CHECKPOINTER = path.resolve(import.meta.dirname, "../support/apps/late-checkpointer.py");

async function applicationOf(deployment: Deployment, options: SqlSessionOptions = {}): Promise<SqlSession> {
  const app = new SqlSession(deployment.database, options);
  expect(await app.value("PRAGMA journal_mode=WAL")).toBe("wal");
  await app.run("CREATE TABLE IF NOT EXISTS t (value INTEGER, body BLOB); INSERT INTO t VALUES (0, x'')");
  return app;
}

const insert = (count: number, bytes = 100): string =>
  `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) INSERT INTO t SELECT i, randomblob(${bytes}) FROM n`;
const singleCommits = (count: number): string => Array.from({ length: count }, () => insert(1)).join("; ");
const commitsIn = (events: readonly SqliteCommit[]): number =>
  events.reduce((sum, event) => sum + (event.cause === "commit" ? event.commits : 0), 0);

/** A checkpoint is refused at once while another one runs, ours included: applications that need it try again. */
async function truncate(app: SqlSession): Promise<void> {
  await waitFor("TRUNCATE is done", async () => (await app.run("PRAGMA wal_checkpoint(TRUNCATE)"))[0]?.[0] === 0);
}

test.concurrent.for([1, 50, 1000])("wal_autocheckpoint = %i: every commit counted, none repaired", async (pages) => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  await deployment.start("run");
  await app.run(`PRAGMA wal_autocheckpoint=${pages}`);
  for (let round = 0; round < 5; round += 1) await app.run(singleCommits(60));
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
  expect(commitsIn(await deployment.commits())).toBe(300);
});

test.concurrent("three TRUNCATEs on an idle WAL are no gap", async () => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  await deployment.start("run");
  await app.run(insert(10));
  for (let round = 0; round < 3; round += 1) {
    await truncate(app);
  }
  await app.run(insert(10));
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});

test.concurrent("two processes that both run wal_checkpoint(TRUNCATE) while one commits", async () => {
  await using deployment = new Deployment();
  await using first = await applicationOf(deployment);
  await using second = await applicationOf(deployment);
  await deployment.start("run");
  const work = async (app: SqlSession): Promise<void> => {
    for (let round = 0; round < 15; round += 1) {
      await app.run(insert(3));
      await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    }
  };
  await Promise.all([work(first), work(second)]);
  expect(await deployment.difference()).toBeUndefined();
  expect(await first.value("SELECT count(*) FROM t")).toBe(92);
});

test.concurrent("the last connection of the application closes: the WAL stays, and what comes after is captured", async () => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  await deployment.start("run");
  await app.run(insert(50));
  await app.disconnect();
  expect(fs.existsSync(`${deployment.database}-wal`)).toBe(true);
  expect(await deployment.difference()).toBeUndefined();
  await app.run(insert(50));
  await app.disconnect();
  await app.run(insert(50));
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});

test.concurrent("an application that is connected and has not read yet when the agent starts", async () => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  await app.disconnect();
  await app.connect();
  await deployment.start("run");
  await app.run(insert(20));
  await app.disconnect();
  await app.run(insert(20));
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});

test.concurrent("a savepoint that is rolled back after it spilled frames into the WAL", async () => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  await deployment.start("run");
  await app.run("PRAGMA cache_size=5");
  for (let round = 0; round < 3; round += 1) {
    await app.run("BEGIN");
    await app.run(insert(5, 3000));
    await app.run("SAVEPOINT spilled");
    await app.run(insert(300, 3000));
    const walBytes = fs.statSync(`${deployment.database}-wal`).size;
    expect(walBytes).toBeGreaterThan(300 * 3000);
    await app.run("ROLLBACK TO spilled");
    await app.run(insert(7, 10));
    await app.run("COMMIT");
    expect(await deployment.difference()).toBeUndefined();
  }
  // And one that is rolled back altogether, then overwritten.
  await app.run("BEGIN");
  await app.run(insert(300, 3000));
  await app.run("ROLLBACK");
  await app.run(insert(1));
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});

test.concurrent("a commit of nothing, and one that writes what was there", async () => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  await deployment.start("run");
  await app.run("BEGIN IMMEDIATE; COMMIT");
  await app.run("UPDATE t SET value = value");
  await app.run("UPDATE t SET value = 1 WHERE 0");
  await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
  await app.run("UPDATE t SET value = value");
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});

test.concurrent("a transaction that stays open, and a reader that holds an old snapshot", async () => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  await using reader = await applicationOf(deployment);
  await deployment.start("run");
  await app.run("BEGIN IMMEDIATE");
  await app.run(insert(20));
  expect(await deployment.difference()).toBeUndefined();
  await app.run("COMMIT");
  await reader.run("BEGIN");
  const before = await reader.value("SELECT count(*) FROM t");
  for (let round = 0; round < 4; round += 1) await app.run(singleCommits(100));
  expect(await deployment.difference()).toBeUndefined();
  expect(await reader.value("SELECT count(*) FROM t")).toBe(before);
  await reader.run("COMMIT");
  await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
  await app.run(singleCommits(20));
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});

// Measured alone.
test("the application's readers have every read mark, so that our pin shares an old one: who waits for it goes on", async () => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  await deployment.start("run");
  const readers = Array.from({ length: 5 }, () => new SqlSession(deployment.database));
  for (const reader of readers) await reader.run("BEGIN");
  // The first may read at read lock 0, and keeps the others from it: nothing goes into the database file any more.
  for (const reader of readers) {
    await reader.value("SELECT count(*) FROM t");
    await app.run(insert(1));
  }
  await deployment.sync({ applied: false });
  for (const reader of readers) await reader[Symbol.asyncDispose]();
  const startedMs = performance.now();
  // SQLite waits for readers, but not for another checkpoint that is under way, such as the agent's.
  const isBusy = async (): Promise<boolean> => (await app.run("PRAGMA wal_checkpoint(TRUNCATE)"))[0]?.[0] !== 0;
  while ((await isBusy()) && performance.now() - startedMs < 2500);
  // A pin that stays in the way is felt for the whole busy timeout, five seconds.
  expect(performance.now() - startedMs).toBeLessThan(2500);
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});

// Measured alone.
test("a checkpointer that is held up before it gives read lock 0 back: our pin is not taken to be there", async () => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  await deployment.start("run");
  await app.run(insert(1));
  await using checkpointer = new Program(["python3", LATE_CHECKPOINTER, deployment.database, "0.3"]);
  expect(Number(await checkpointer.line("the time TRUNCATE took", () => true))).toBeLessThan(1000);
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});
