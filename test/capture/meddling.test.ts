import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { waitFor } from "../support/wait.ts";

// People do things to the files of a database that no SQLite does, while the agent runs.

async function application(database: string): Promise<SqlSession> {
  const app = new SqlSession(database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value INTEGER, body BLOB); INSERT INTO t VALUES (1, randomblob(50000))");
  return app;
}

test.concurrent("a backup is copied over the database, into the same file, while the application is stopped", async () => {
  await using deployment = new Deployment();
  await using app = await application(deployment.database);
  await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
  const backup = path.join(deployment.directory, "backup.db");
  fs.copyFileSync(deployment.database, backup);
  await deployment.start("run");
  await app.run("INSERT INTO t VALUES (2, randomblob(50000)); UPDATE t SET body = randomblob(50000)");
  expect(await deployment.difference()).toBeUndefined();
  await app.disconnect();
  await waitFor(
    "the WAL is emptied, as the last close would have done",
    () => fs.statSync(`${deployment.database}-wal`).size === 0,
  );
  // In a process of its own, as a person would: in this one it could drop SQLite's locks.
  execFileSync("cp", [backup, deployment.database]);
  await waitFor("the comparison", async () => (await deployment.repairs()) > 0);
  await app.run("INSERT INTO t VALUES (3, zeroblob(10))");
  expect(await deployment.difference()).toBeUndefined();
  expect(await app.value("SELECT group_concat(value) FROM t")).toBe("1,3");
});

test.concurrent("-shm is deleted while the application has it open: its commits are still captured", async () => {
  await using deployment = new Deployment();
  await using app = await application(deployment.database);
  const agent = await deployment.start("run");
  await app.run("INSERT INTO t VALUES (2, randomblob(5000))");
  fs.rmSync(`${deployment.database}-shm`);
  await waitFor("the warning", () => agent.output.stderr.includes("was deleted while it is open"));
  for (let value = 3; value < 20; value += 1) await app.run(`INSERT INTO t VALUES (${value}, randomblob(9000))`);
  await deployment.sync();
  const standby = new SqlSession(deployment.standbyDatabase);
  expect(await standby.value("SELECT count(*) FROM t")).toBe(19);
  await standby.disconnect();
  expect(await deployment.repairs()).toBe(0);
});

test.concurrent("a damaged frame that was not captured: the agent says so, stays calm, and stops when told", async () => {
  await using deployment = new Deployment();
  await using app = await application(deployment.database);
  const agent = await deployment.start("capture");
  await deployment.sync({ applied: false });
  agent.child.kill("SIGSTOP");
  await app.run("INSERT INTO t VALUES (2, randomblob(90000))");
  flipLastByte(`${deployment.database}-wal`);
  agent.child.kill("SIGCONT");
  await waitFor("the gap", () => agent.output.stderr.includes("wrong checksum"));
  const said = agent.output.stderr.length;
  await waitFor("a status while it waits", async () =>
    /wrong checksum/.test(JSON.stringify(await deployment.status())),
  );
  expect(agent.output.stderr.length - said).toBeLessThan(2000);
  const stopped = performance.now();
  expect((await agent.stop()).code).toBe(0);
  expect(performance.now() - stopped).toBeLessThan(20_000);
});

function flipLastByte(file: string): void {
  const fd = fs.openSync(file, "r+");
  const at = fs.fstatSync(fd).size - 1;
  const byte = new Uint8Array(1);
  fs.readSync(fd, byte, 0, 1, at);
  fs.writeSync(fd, new Uint8Array([(byte[0] ?? 0) ^ 0xff]), 0, 1, at);
  fs.closeSync(fd);
}

test.concurrent("deleted, made anew and being read: sync waits for it again, and does not promise what is not in the log", async () => {
  await using deployment = new Deployment({ config: "copyRate: 1MiB" });
  await using app = await application(deployment.database);
  await deployment.start("run");
  await app.disconnect();
  for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(deployment.database + suffix, { force: true });
  const state = async (): Promise<string | undefined> => (await deployment.captureStates())["app.db"];
  await waitFor("it is missed", async () => (await state()) === "waiting");

  const made = path.join(deployment.directory, "made.db");
  await using maker = await application(made);
  await maker.run("INSERT INTO t VALUES (2, randomblob(2000000))");
  await maker.disconnect();
  fs.renameSync(made, deployment.database);
  await waitFor("it is read", async () => (await state()) !== "waiting");
  expect(await deployment.difference()).toBeUndefined();
});
