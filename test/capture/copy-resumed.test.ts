import fs from "node:fs";

import { expect, test } from "vitest";

import type { Offset } from "../../src/event/positions.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { CopyScene } from "../support/copy-scene.ts";
import { Deployment } from "../support/deployment.ts";

// A copy that is broken off is gone on with, whatever happened meanwhile. State and log are put together as a kill can leave
// them: the state as it was stored last, the log up to any record that was sent after that.

const MIB = 1024 * 1024;
const ROWS = 800;
const fill = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${ROWS}) INSERT INTO t SELECT i, randomblob(3500) FROM n`;
const change = (from: number, to: number): string =>
  `UPDATE t SET body = randomblob(3500) WHERE value BETWEEN ${from} AND ${to}`;

/** About 3 MiB. */
async function applicationOf(deployment: Deployment): Promise<SqlSession> {
  const app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value INTEGER PRIMARY KEY, body BLOB)");
  await app.run(fill);
  await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
  return app;
}

test.concurrent("at every record of a copy after its state was stored a kill loses nothing, and nothing is shipped twice", async () => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  const scene = new CopyScene(deployment);
  const databaseBytes = fs.statSync(deployment.database).size;
  const before = String(await app.value("SELECT hex(body) FROM t WHERE value = 5"));
  await scene.captureSome(MIB / 2);
  expect((await scene.commits()).length).toBe(0);
  scene.keep("stored");
  const stored = (await deployment.events()).at(-1)?.offset ?? 0;
  // Page of an early row: A is in a part of the first agent, B in one of the second's.
  await app.run("UPDATE t SET body = zeroblob(3500) WHERE value = 5");
  await scene.capture(async (agent) => {
    await agent.ready;
    await app.run(change(600, 610));
    await agent.sync();
  });
  expect((await scene.commits()).map(({ cause }) => cause)).toEqual(["copy", "commit"]);
  scene.keep("whole");
  await app.run(`UPDATE t SET body = x'${before}' WHERE value = 5`);

  const events = await deployment.events();
  const closing = events.find(({ body }) => body.kind === "sqlite.commit");
  if (closing?.body.kind !== "sqlite.commit") throw new Error("the copy was not closed");
  const { transaction } = closing.body;
  const closed = closing.offset;
  const middle = Math.floor((stored + closed) / 2);
  for (const through of [stored, middle, closed - 1, closed]) {
    await scene.putBack({ state: "stored", log: "whole", through: through as Offset });
    await scene.captureAll();
    await scene.requireEqual();
    const [copy] = await scene.commits();
    expect(copy, `${through} of ${closed}`).toMatchObject({ cause: "copy", transaction });
    expect(await scene.shippedBytes()).toBeLessThan(1.1 * databaseBytes);
  }
}, 120_000);

const MEANWHILE: Readonly<Record<string, (app: SqlSession, deployment: Deployment) => Promise<void>>> = {
  "VACUUM made it smaller": async (app) => {
    await app.run("DELETE FROM t WHERE value % 3 = 0");
    await app.run("VACUUM");
  },
  "it shrank below what was sent and grew again": async (app) => {
    await app.run("DELETE FROM t WHERE value > 50");
    await app.run("VACUUM");
    await app.run("INSERT INTO t SELECT value + 10000, randomblob(3500) FROM t");
  },
  "its page size changed": async (app) => {
    await app.run("PRAGMA journal_mode=DELETE");
    await app.run("PRAGMA page_size=8192");
    await app.run("VACUUM");
    await app.run("PRAGMA journal_mode=WAL");
  },
  "another file took its place": async (app, deployment) => {
    await app.run(`VACUUM INTO '${deployment.database}.new'`);
    await app.disconnect();
    for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(deployment.database + suffix, { force: true });
    fs.renameSync(`${deployment.database}.new`, deployment.database);
    await app.run("PRAGMA journal_mode=WAL");
  },
  "the log lost its first parts": async (_, deployment) => {
    const { logDirectory: directory, set } = deployment;
    await using log = await openEmbeddedLog({ directory, set, mode: "write" });
    await log.trim((((await log.bounds()).last as number) - 1) as Offset);
  },
};

test.concurrent.each(Object.entries(MEANWHILE))("a copy is broken off, and then %s", async (_, meanwhile) => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  const scene = new CopyScene(deployment);
  await scene.captureSome(MIB / 2);
  await meanwhile(app, deployment);
  await scene.capture(async (agent) => {
    await agent.ready;
    await app.run(change(1, 5));
    await agent.sync();
  });
  await scene.requireEqual();
});

test.concurrent("a repair that died before it was stored is gone on with; parts of a commit are not, when the WAL proves that nothing passed", async () => {
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  const scene = new CopyScene(deployment);
  await app.run("PRAGMA wal_autocheckpoint=0");
  await app.run(change(1, 1));
  // Keeps the WAL from beginning anew.
  await using reader = new SqlSession(deployment.database);
  await reader.run("BEGIN");
  await reader.value("SELECT count(*) FROM t");
  await scene.captureAll();
  scene.keep("stored");
  const stored = (await deployment.events()).at(-1)?.offset ?? 0;
  const databaseBytes = await scene.shippedBytes();
  await app.run(change(1, 500));
  await scene.captureAll();
  scene.keep("commit");
  const commit = (await scene.commits()).at(-1);
  expect(commit).toMatchObject({ cause: "commit", commits: 1 });
  expect(commit?.parts).toBeGreaterThan(2);
  await scene.putBack({ state: "stored", log: "commit", through: (stored + 3) as Offset });
  await scene.captureAll();
  await scene.requireEqual();
  expect((await scene.commits()).map(({ cause }) => cause)).toEqual(["copy", "commit"]);
  expect((await scene.commits()).at(-1)?.transaction).not.toBe(commit?.transaction);

  // The same parts, and a WAL that proves nothing: the beginning of a repair.
  await reader.run("COMMIT");
  await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
  await app.run(change(700, 700));
  await scene.putBack({ state: "stored", log: "commit", through: (stored + 3) as Offset });
  await scene.captureAll();
  await scene.requireEqual();
  expect((await scene.commits()).at(-1)).toMatchObject({ cause: "repair", transaction: commit?.transaction });
  expect(await scene.shippedBytes()).toBeLessThan(1.05 * (databaseBytes + 0.625 * databaseBytes));
});
