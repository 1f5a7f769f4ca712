import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { walFrames } from "../support/wal-frames.ts";

// The application goes on while no agent looks. On its return the agent proves what passed, or ships the difference.

const insert = (count: number, bytes: number): string =>
  `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) INSERT INTO t SELECT i, randomblob(${bytes}) FROM n`;

/** An application with a database of about 4 KB a row. */
async function databaseOf(deployment: Deployment, rows = 2000): Promise<SqlSession> {
  const app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value INTEGER PRIMARY KEY, body BLOB)");
  await app.run(insert(rows, 3500));
  return app;
}

test.concurrent("the WAL restarted meanwhile and is shorter now: the difference is shipped, and only it", async () => {
  await using deployment = new Deployment();
  await using app = await databaseOf(deployment);
  const agent = await deployment.start("run");
  await app.run("UPDATE t SET body = randomblob(3500) WHERE value BETWEEN 100 AND 160");
  expect(await deployment.difference()).toBeUndefined();
  await agent.kill9();
  const killedAtMs = Date.now();

  await app.run("UPDATE t SET body = randomblob(3500) WHERE value BETWEEN 300 AND 305");
  await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
  await app.run("UPDATE t SET body = randomblob(3500) WHERE value = 700");
  await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  const repairs = (await deployment.commits()).filter((commit) => commit.cause === "repair");
  expect(repairs.length).toBe(1);
  // In parts when it took long.
  const pages = (await deployment.events()).flatMap(({ body }) =>
    "transaction" in body && body.transaction === repairs[0]?.transaction ? body.pages : [],
  );
  expect(pages.length).toBeLessThan(30);
  expect(repairs[0]?.gapSinceMs).toBeGreaterThan(0);
  expect(repairs[0]?.gapSinceMs).toBeLessThanOrEqual(killedAtMs);
});

test.concurrent("the WAL was deleted by the application's last close: the same", async () => {
  await using deployment = new Deployment();
  await using app = await databaseOf(deployment);
  const agent = await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  await agent.stop();
  await app.run("UPDATE t SET body = randomblob(3500) WHERE value = 300");
  await app.disconnect();
  expect(fs.existsSync(`${deployment.database}-wal`)).toBe(false);
  await app.run("UPDATE t SET body = randomblob(3500) WHERE value = 400");
  await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  const commits = await deployment.commits();
  expect(commits.map((commit) => commit.cause)).toEqual(["copy", "repair"]);
  expect(commits[1]?.pages.length).toBeLessThan(20);
});

test.concurrent("commits that are still in the WAL are caught up one by one, without a repair", async () => {
  await using deployment = new Deployment({ config: "granularity: commit" });
  await using app = await databaseOf(deployment);
  const agent = await deployment.start("run");
  await app.run("UPDATE t SET body = randomblob(3500) WHERE value = 1");
  // A reader of the application keeps the WAL from beginning anew.
  await using reader = new SqlSession(deployment.database);
  await reader.run("BEGIN");
  await reader.value("SELECT count(*) FROM t");
  await app.run("UPDATE t SET body = randomblob(3500) WHERE value = 2");
  expect(await deployment.difference()).toBeUndefined();
  const before = (await deployment.commits()).length;
  await agent.kill9();
  for (let value = 10; value < 30; value += 1) {
    await app.run(`UPDATE t SET body = randomblob(3500) WHERE value = ${value}`);
  }
  await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  const since = (await deployment.commits()).slice(before);
  expect(since.map(({ cause, commits }) => [cause, commits])).toEqual(Array.from({ length: 20 }, () => ["commit", 1]));
});

test.concurrent("a page goes A, B, A while the agent is down with an index from before B", async () => {
  await using deployment = new Deployment();
  await using app = await databaseOf(deployment);
  const bodyOf = async (): Promise<unknown> => app.value("SELECT hex(body) FROM t WHERE value = 5");
  const before = await bodyOf();
  const first = await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  // Stores the index as of A; what the second agent stores of B is lost with it.
  await first.stop();
  const stateAtA = `${deployment.state}-at-a`;
  fs.cpSync(deployment.state, stateAtA, { recursive: true });
  const second = await deployment.start("run");
  await app.run("UPDATE t SET body = zeroblob(3500) WHERE value = 5");
  expect(await deployment.difference()).toBeUndefined();
  await second.kill9();
  fs.rmSync(deployment.state, { recursive: true });
  fs.renameSync(stateAtA, deployment.state);
  await app.run(`UPDATE t SET body = x'${String(before)}' WHERE value = 5`);
  await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
  await app.disconnect();
  await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  expect(await bodyOf()).toBe(before);
});

test.concurrent("the state directory is lost: a full copy, in an epoch of its own", async () => {
  await using deployment = new Deployment();
  await using app = await databaseOf(deployment);
  const agent = await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  await agent.stop();
  fs.rmSync(deployment.state, { recursive: true });
  await app.run("UPDATE t SET body = randomblob(3500) WHERE value = 300");
  await deployment.start("run", "--takeover");
  expect(await deployment.difference()).toBeUndefined();
  expect((await deployment.commits()).map((commit) => commit.cause)).toEqual(["copy", "copy"]);
});

test.concurrent("killed as it stops while the log takes nothing: what was not acknowledged is not taken for shipped", async () => {
  await using deployment = new Deployment();
  await using app = await databaseOf(deployment, 500);
  const agent = await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  await using other = new SqlSession(path.join(deployment.logDirectory, "log.db"));
  await other.run("BEGIN IMMEDIATE");
  await app.run("UPDATE t SET body = randomblob(3500) WHERE value = 300");
  // At its stop an agent captures what is committed and stores its index: as soon as the log has it, which is never.
  agent.child.kill("SIGTERM");
  await sleep(700);
  await agent.kill9();
  await other.run("ROLLBACK");
  await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
});

test.concurrent("the power is cut, the WAL loses a commit that was captured, and another one of the same size takes its place", async () => {
  await using deployment = new Deployment();
  const { database } = deployment;
  const update = (value: number): string => `UPDATE t SET body = randomblob(3500) WHERE value = ${value}`;
  const app = await databaseOf(deployment, 500);
  const agent = await deployment.start("run");
  // A reader of the application keeps the WAL from beginning anew.
  const reader = new SqlSession(database);
  await reader.run("BEGIN");
  await reader.value("SELECT count(*) FROM t");
  await app.run(update(300));
  const before = fs.readFileSync(`${database}-wal`);
  const committedBefore = walFrames(database).committed;
  await app.run(update(400));
  const { committed } = walFrames(database);
  expect(committed).toBeGreaterThan(committedBefore);
  expect(await deployment.difference()).toBeUndefined();
  await agent.stop();
  for (const each of [app, reader]) await each[Symbol.asyncDispose]();

  fs.writeFileSync(`${database}-wal`, before);
  fs.rmSync(`${database}-shm`);
  await using again = new SqlSession(database);
  await again.run(update(450));
  expect(walFrames(database).committed).toBe(committed);
  await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(1);
});
