import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { CopyScene } from "../support/copy-scene.ts";
import { Deployment } from "../support/deployment.ts";
import { checkOrder, createFilesTable, runFileWriters } from "../support/file-order.ts";
import { NatsServer } from "../support/nats-server.ts";
import { Random } from "../support/random.ts";
import { waitFor } from "../support/wait.ts";

const insert = (count: number): string =>
  `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) INSERT INTO t SELECT i, randomblob(4000) FROM n`;

async function applicationOf(deployment: Deployment): Promise<SqlSession> {
  const app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value INTEGER, body BLOB)");
  return app;
}

const walBytes = (deployment: Deployment): number => fs.statSync(`${deployment.database}-wal`).size;

test.concurrent("the log is away for a while: the WAL is the queue and everything arrives", async () => {
  await using server = await NatsServer.start();
  await using deployment = new Deployment({ nats: server.address });
  await using app = await applicationOf(deployment);
  await deployment.start("capture");
  await deployment.start("replica");
  await app.run(insert(20));
  expect(await deployment.difference()).toBeUndefined();
  await server.kill();
  for (let round = 0; round < 50; round += 1) await app.run(insert(5));
  await server.start();
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});

test.concurrent("past wal.max the pin is let go: the WAL stops growing, and the difference is shipped when the log is back", async () => {
  await using server = await NatsServer.start();
  await using deployment = new Deployment({ nats: server.address, config: "wal: { max: 2MiB, seal: 1MiB }" });
  await using app = await applicationOf(deployment);
  const agent = await deployment.start("capture");
  await deployment.start("replica");
  await app.run(insert(20));
  expect(await deployment.difference()).toBeUndefined();
  await server.kill();
  // More than the agent keeps in memory for a log that is away: only then the WAL is the queue.
  for (let round = 0; round < 10; round += 1) await app.run(insert(600));
  await waitFor("the pin is let go", () => agent.output.stderr.includes("wal.max"));
  // The file keeps its size when the WAL begins anew, which the application's own checkpoints let it do now.
  const letGoAt = walBytes(deployment);
  for (let round = 0; round < 100; round += 1) await app.run(insert(100));
  // 40 MiB were written.
  expect(walBytes(deployment)).toBeLessThan(letGoAt + 6 * 1024 * 1024);
  await server.start();
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBeGreaterThan(0);
  expect(await app.value("SELECT count(*) FROM t")).toBe(16_020);
});

test.concurrent("the log goes away in the middle of a first copy, past wal.max: the copy is gone on with", async () => {
  await using server = await NatsServer.start();
  await using deployment = new Deployment({
    nats: server.address,
    config: "copyRate: 4MiB\nwal: { max: 1MiB, seal: 1MiB }",
  });
  await using app = await applicationOf(deployment);
  await app.run(insert(2500));
  const agent = deployment.launch("capture");
  await waitFor("a part is in the log", async () => (await new CopyScene(deployment).shippedBytes()) > 2 * 1024 * 1024);
  await server.kill();
  for (let round = 0; round < 100 && !agent.output.stderr.includes("wal.max"); round += 1) {
    await app.run(insert(50));
    await sleep(100);
  }
  expect(agent.output.stderr).toContain("wal.max");
  await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
  await app.run(insert(5));
  await server.start();
  await agent.waitReady();
  await deployment.start("replica");
  expect(await deployment.difference()).toBeUndefined();
  const shipped = await new CopyScene(deployment).shipped();
  const copy = shipped.findIndex(({ body }) => body.kind === "sqlite.commit");
  expect(shipped[copy]?.body).toMatchObject({ cause: "copy", parts: copy });
});

// Measured alone.
test("while the log is away the application's own TRUNCATE checkpoints do not wait for us", async () => {
  await using server = await NatsServer.start();
  await using deployment = new Deployment({ nats: server.address });
  await using app = await applicationOf(deployment);
  await deployment.start("capture");
  await app.run(insert(20));
  await deployment.sync({ applied: false });
  await server.kill();
  let worstMs = 0;
  // Longer than the agent goes without storing its index, which needs the log.
  for (let round = 0; round < 6; round += 1) {
    await app.run(insert(1));
    await sleep(1200);
    const started = performance.now();
    await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    worstMs = Math.max(worstMs, performance.now() - started);
  }
  expect(worstMs).toBeLessThan(2500);
  await server.start();
  await deployment.start("replica");
  expect(await deployment.difference()).toBeUndefined();
});

test("files and their rows that come while the log is away get there in their order, and what is gone by then is gone", async () => {
  await using server = await NatsServer.start();
  await using deployment = new Deployment({
    nats: server.address,
    trees: ["{ path: app/uploads, maxDelete: 100% }"],
    // However long the log is away on a loaded machine.
    config: "order: { maxWait: 60s }",
  });
  const { database } = deployment;
  const root = deployment.pathOf("uploads");
  fs.mkdirSync(root);
  // A tree that is empty for a moment would be halted.
  for (const name of ["goes", "stays"]) fs.writeFileSync(path.join(root, name), "there before");
  await createFilesTable(database);
  await deployment.start("capture");
  await deployment.start("replica");
  expect(await deployment.treeDifference("uploads")).toBe("");
  await server.kill();
  fs.rmSync(path.join(root, "goes"));
  fs.writeFileSync(path.join(root, "large"), randomBytes(20_000_000));
  const writers = [0, 1].map((writer) => ({ database, root, writer, commits: 80, delayMs: 2, deleteAge: 20 }));
  await runFileWriters(writers, 60_000);
  await server.start();
  expect(await deployment.treeDifference("uploads")).toBe("");
  expect(await deployment.difference()).toBeUndefined();
  const { wrong, rows } = checkOrder(await deployment.events(), new Random("log away"), 100);
  expect(wrong).toEqual([]);
  expect(rows).toBeGreaterThan(0);
});

test("files that were sent to a log that is away are sent again after a kill: only what the log has is stored as known", async () => {
  await using server = await NatsServer.start();
  await using deployment = new Deployment({ nats: server.address, trees: ["app/uploads"] });
  const root = deployment.pathOf("uploads");
  const index = path.join(deployment.state, "files.db-wal");
  fs.mkdirSync(root);
  await createFilesTable(deployment.database);
  const agent = await deployment.start("capture");
  await deployment.start("replica");
  expect(await deployment.treeDifference("uploads")).toBe("");
  await server.kill();
  fs.writeFileSync(path.join(root, "sent"), "never acknowledged");
  await waitFor("it is sent", async () => (await deployment.treeState("uploads")).files === 1);
  const sentMs = performance.now();
  // The index is stored every second while something is unstored; what it may store is what the test is about.
  await waitFor("a store", () => performance.now() - sentMs > 1500);
  await agent.kill9();
  expect(fs.existsSync(index)).toBe(true);
  await server.start();
  await deployment.start("capture");
  expect(await deployment.treeDifference("uploads")).toBe("");
});
