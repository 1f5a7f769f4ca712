import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { comparePages } from "../support/compare.ts";
import { Deployment } from "../support/deployment.ts";
import { waitFor } from "../support/wait.ts";

const insert = (count: number, bytes: number): string =>
  `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) INSERT INTO t SELECT i, randomblob(${bytes}) FROM n`;

async function databaseOf(path: string, pragmas = ""): Promise<SqlSession> {
  const app = new SqlSession(path);
  if (pragmas !== "") await app.run(pragmas);
  expect(await app.value("PRAGMA journal_mode=WAL")).toBe("wal");
  await app.run("CREATE TABLE t (value INTEGER, body BLOB)");
  return app;
}

test("every page size, in one set", async () => {
  const sizes = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];
  const names = sizes.map((size) => `size-${size}.db`);
  await using deployment = new Deployment({ names });
  const apps: SqlSession[] = [];
  for (const [index, size] of sizes.entries()) {
    const app = await databaseOf(deployment.pathOf(names[index] ?? ""), `PRAGMA page_size=${size}`);
    await app.run(insert(10, 3000));
    apps.push(app);
  }
  await deployment.start("run");
  await Promise.all(apps.map((app) => app.run(insert(40, 3000))));
  await Promise.all(apps.map((app) => app.run("DELETE FROM t WHERE value % 3 = 0")));
  await deployment.sync();
  for (const [index, name] of names.entries()) {
    expect(await apps[index]?.value("PRAGMA page_size")).toBe(sizes[index]);
    expect(comparePages(deployment.pathOf(name), deployment.standbyOf(name)), name).toBeUndefined();
  }
  for (const app of apps) await app[Symbol.asyncDispose]();
});

test("grow, shrink by VACUUM and by incremental_vacuum, grow again", async () => {
  await using deployment = new Deployment();
  await using app = await databaseOf(deployment.database, "PRAGMA auto_vacuum=INCREMENTAL");
  await deployment.start("run");
  for (let round = 0; round < 2; round += 1) {
    await app.run(insert(600, 3000));
    expect(await deployment.difference()).toBeUndefined();
    const grown = Number(await app.value("PRAGMA page_count"));
    await app.run("DELETE FROM t WHERE value > 20");
    await app.run("PRAGMA incremental_vacuum(100)");
    expect(await deployment.difference()).toBeUndefined();
    await app.run("PRAGMA incremental_vacuum");
    await app.run("VACUUM");
    expect(Number(await app.value("PRAGMA page_count"))).toBeLessThan(grown / 4);
    expect(await deployment.difference()).toBeUndefined();
  }
  // Shrink and grow again between two looks of the agent, in one breath.
  await app.run(
    `DELETE FROM t; VACUUM; ${insert(300, 2000)}; DELETE FROM t WHERE value > 5; VACUUM; ${insert(100, 500)}`,
  );
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});

test("VACUUM changes the page size", async () => {
  await using deployment = new Deployment();
  await using app = await databaseOf(deployment.database);
  await app.run(insert(100, 1000));
  await deployment.start("run");
  // SQLite does so only outside WAL mode, which needs the database for itself.
  await deployment.sync();
  await expect(app.run("PRAGMA journal_mode=DELETE")).rejects.toThrow(/locked/);
  await app.run("PRAGMA page_size=8192");
  await app.run("VACUUM");
  expect(await app.value("PRAGMA page_size")).toBe(4096);
  expect(await deployment.difference()).toBeUndefined();
});

test("pages that are allocated and freed in one transaction", async () => {
  await using deployment = new Deployment();
  await using app = await databaseOf(deployment.database);
  await app.run("PRAGMA cache_size=-100000");
  await deployment.start("run");
  for (let round = 0; round < 3; round += 1) {
    await app.run(`BEGIN; ${insert(400, 3000)}; DELETE FROM t WHERE value > ${round}; COMMIT`);
    expect(await deployment.difference()).toBeUndefined();
    await app.run(insert(30, 3000));
    expect(await deployment.difference()).toBeUndefined();
  }
  expect(await deployment.repairs()).toBe(0);
});

test("a transaction of 64 MiB is visible as a whole or not at all", async () => {
  await using deployment = new Deployment();
  await using app = await databaseOf(deployment.database);
  await app.run("INSERT INTO t VALUES (0, x'')");
  await deployment.start("run");
  await deployment.sync();
  await using reader = new SqlSession(deployment.standbyDatabase);
  const counts = new Set<unknown>();
  let written = false;
  const watching = waitFor(
    "the standby shows it",
    async () => {
      counts.add(await reader.value("SELECT count(*) FROM t"));
      return written && counts.size > 1;
    },
    { everyMs: 5 },
  );
  await app.run(insert(64, 1024 * 1024));
  expect(await deployment.difference()).toBeUndefined();
  written = true;
  await watching;
  expect([...counts]).toEqual([1, 65]);
  const large = (await deployment.commits()).find((commit) => commit.parts > 100);
  expect(large?.commits).toBe(1);
});

test("a database in WAL mode that holds nothing yet", async () => {
  await using deployment = new Deployment();
  await using app = new SqlSession(deployment.database);
  expect(await app.value("PRAGMA journal_mode=WAL")).toBe("wal");
  await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  await app.run("CREATE TABLE t (value INTEGER, body BLOB)");
  await app.run(insert(50, 200));
  expect(await deployment.difference()).toBeUndefined();
});
