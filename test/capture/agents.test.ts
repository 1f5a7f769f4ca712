import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { NatsServer } from "../support/nats-server.ts";
import { lastJson, runTidemark } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

const WAL_TABLE = "CREATE TABLE t (value INTEGER, body BLOB); INSERT INTO t VALUES (1, randomblob(5000))";

async function walDatabase(database: string): Promise<SqlSession> {
  const app = new SqlSession(database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run(WAL_TABLE);
  return app;
}

test.concurrent("a second capture agent on the same set is refused, with the same state or with its own", async () => {
  await using deployment = new Deployment();
  await using app = await walDatabase(deployment.database);
  await deployment.start("capture");
  const same = await deployment.command("capture");
  expect(lastJson(same.stderr)).toMatchObject({ ok: false, code: "AGENT_RUNNING" });
  expect(same.code).toBe(6);
  const own = await deployment.command("capture", "--state", path.join(deployment.directory, "other-state"));
  expect(lastJson(own.stderr)).toMatchObject({ ok: false, code: "AGENT_RUNNING" });
  await app.run("INSERT INTO t VALUES (2, randomblob(5000))");
  await deployment.start("replica");
  expect(await deployment.difference()).toBeUndefined();
});

test.concurrent("NATS: a capture agent of another host is refused by name, and the first one goes on", async () => {
  await using server = await NatsServer.start();
  await using deployment = new Deployment({ nats: server.address });
  await using app = await walDatabase(deployment.database);
  await deployment.start("capture");
  await deployment.sync({ applied: false });
  const other = await deployment.command("capture", "--state", path.join(deployment.directory, "other-state"));
  expect(lastJson(other.stderr)).toMatchObject({ ok: false, code: "LOG_FOREIGN_WRITER" });
  expect(other.code).toBe(1);
  await app.run("INSERT INTO t VALUES (2, randomblob(5000))");
  await deployment.start("replica");
  expect(await deployment.difference()).toBeUndefined();
});

test.concurrent("a database that is not in WAL mode is refused and stays as it is; --set-wal switches it", async () => {
  await using deployment = new Deployment();
  await using app = new SqlSession(deployment.database);
  await app.run(WAL_TABLE);
  await app.disconnect();
  const before = fs.readFileSync(deployment.database);
  const refused = await deployment.command("run");
  expect(refused.code).toBe(2);
  expect(lastJson(refused.stderr)).toMatchObject({ ok: false, code: "DATABASE_NOT_WAL" });
  expect(String(lastJson(refused.stderr)["hint"])).toContain("--set-wal");
  expect(fs.readFileSync(deployment.database).equals(before)).toBe(true);
  expect(fs.readdirSync(deployment.databaseDirectory)).toEqual(["app.db"]);
  await deployment.start("run", "--set-wal");
  expect(await app.value("PRAGMA journal_mode")).toBe("wal");
  await app.run("INSERT INTO t VALUES (2, randomblob(5000))");
  expect(await deployment.difference()).toBeUndefined();
});

test.concurrent("a database locked by locking_mode=EXCLUSIVE is waited for and named", async () => {
  await using deployment = new Deployment();
  await using app = new SqlSession(deployment.database);
  await app.run("PRAGMA locking_mode=EXCLUSIVE");
  await app.run("PRAGMA journal_mode=WAL");
  await app.run(WAL_TABLE);
  const agent = deployment.launch("run");
  await waitFor("the agent names the lock", () => agent.output.stderr.includes("DATABASE_EXCLUSIVE"));
  expect(agent.child.exitCode).toBeNull();
  await app.disconnect();
  await app.run("INSERT INTO t VALUES (2, randomblob(5000))");
  await agent.waitReady();
  expect(await deployment.difference()).toBeUndefined();
});

test.concurrent("the database is replaced by another file", async () => {
  await using deployment = new Deployment();
  await using app = await walDatabase(deployment.database);
  const other = path.join(deployment.directory, "other.db");
  await using replacement = await walDatabase(other);
  await replacement.run("CREATE TABLE other (a); INSERT INTO other VALUES (1)");
  await replacement.disconnect();
  await deployment.start("run");
  await app.run("INSERT INTO t VALUES (2, randomblob(5000))");
  expect(await deployment.difference()).toBeUndefined();
  await app.disconnect();
  for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(deployment.database + suffix, { force: true });
  fs.renameSync(other, deployment.database);
  await app.run("INSERT INTO t VALUES (3, randomblob(5000))");
  await expectInSync(deployment);
  await app.run("INSERT INTO other VALUES (2)");
  expect(await deployment.difference()).toBeUndefined();
});

test.concurrent("the database is deleted and made anew", async () => {
  await using deployment = new Deployment();
  await using app = await walDatabase(deployment.database);
  const agent = await deployment.start("run");
  await app.run("INSERT INTO t VALUES (2, randomblob(50000))");
  expect(await deployment.difference()).toBeUndefined();
  await app.disconnect();
  for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(deployment.database + suffix, { force: true });
  await waitFor("the agent says that it is gone", () => agent.output.stderr.includes("DATABASE_MISSING"));
  expect(fs.existsSync(deployment.standbyDatabase)).toBe(true);
  await app.run("PRAGMA page_size=8192");
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE fresh (a); INSERT INTO fresh VALUES (1)");
  await expectInSync(deployment);
  await app.run("INSERT INTO fresh VALUES (2)");
  expect(await deployment.difference()).toBeUndefined();
});

test.concurrent("the database is restored in place through SQLite's own backup", async () => {
  await using deployment = new Deployment();
  await using app = await walDatabase(deployment.database);
  const backup = path.join(deployment.directory, "backup.db");
  await app.run(`VACUUM INTO '${backup}'`);
  await deployment.start("run");
  for (let round = 0; round < 20; round += 1) await app.run("INSERT INTO t VALUES (2, randomblob(50000))");
  expect(await deployment.difference()).toBeUndefined();
  execFileSync("sqlite3", [deployment.database, `.restore ${backup}`]);
  expect(await app.value("SELECT count(*) FROM t")).toBe(1);
  expect(await deployment.difference()).toBeUndefined();
});

/** A replaced file is noticed within a second: the agent reopens it in its own time. */
async function expectInSync(deployment: Deployment): Promise<void> {
  await waitFor("the standby equals the new file", async () => (await deployment.difference()) === undefined);
}

test.concurrent("a file that is no database is refused and left alone", async () => {
  await using deployment = new Deployment();
  fs.writeFileSync(
    deployment.database,
    "not a database at all, but long enough to have a header of a hundred bytes".repeat(5),
  );
  const before = fs.readFileSync(deployment.database);
  const { code, stderr } = await runTidemark(["run", "-c", deployment.configFile, "--json"]);
  expect(code).toBe(2);
  expect(lastJson(stderr)).toMatchObject({ ok: false, code: "DATABASE_NOT_SQLITE" });
  expect(fs.readFileSync(deployment.database).equals(before)).toBe(true);
});
