import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { lastJson } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

// No room on the disk: said by name, nothing half-written, and what stopped goes on when there is room.

const insert = (count: number): string =>
  `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) INSERT INTO t SELECT i, randomblob(4000) FROM n`;

async function applicationOf(deployment: Deployment): Promise<SqlSession> {
  const app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value INTEGER, body BLOB)");
  await app.run(insert(100));
  return app;
}

/** A directory outside of the deployment's, for a mount that outlives its removal. */
class Mounted implements Disposable {
  readonly directory = fs.mkdtempSync(path.join(fs.realpathSync(process.env["TMPDIR"] ?? "/tmp"), "tidemark-disk-"));
  readonly disk: SmallDisk;

  constructor(mebibytes: number) {
    this.disk = new SmallDisk(this.directory, mebibytes);
  }

  [Symbol.dispose](): void {
    this.disk[Symbol.dispose]();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

async function expectToSay(deployment: Deployment, text: string): Promise<void> {
  await waitFor(`status says ${text}`, async () => {
    const { stdout } = await deployment.command("status");
    return stdout.includes(text);
  });
}

test("the standby's disk is full: the app and the log go on, the standby keeps a whole state, and catches up", async () => {
  using mounted = new Mounted(8);
  const { disk } = mounted;
  await using deployment = new Deployment({ standby: path.join(disk.path, "standby") });
  await using app = await applicationOf(deployment);
  await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  for (let round = 0; round < 6; round += 1) await app.run(insert(500));
  await expectToSay(deployment, "standby: no room");
  await deployment.sync({ applied: false });
  await using reader = new SqlSession(deployment.standbyDatabase);
  expect([100, 600, 1100, 1600]).toContain(await reader.value("SELECT count(*) FROM t"));
  expect(await reader.value("PRAGMA integrity_check")).toBe("ok");
  await reader.disconnect();
  disk.resize(100);
  expect(await deployment.difference()).toBeUndefined();
});

test("the log's disk is full: the app goes on, the WAL is the queue, nothing is lost", async () => {
  using mounted = new Mounted(6);
  const { disk } = mounted;
  await using deployment = new Deployment({ logDirectory: path.join(disk.path, "log") });
  await using app = await applicationOf(deployment);
  await deployment.start("run");
  for (let round = 0; round < 8; round += 1) await app.run(insert(500));
  await expectToSay(deployment, "log: no room");
  await app.run(insert(10));
  disk.resize(200);
  expect(await deployment.difference()).toBeUndefined();
  expect(await app.value("SELECT count(*) FROM t")).toBe(4110);
});

test("the target's disk is full: restore says so and leaves nothing behind", async () => {
  using mounted = new Mounted(4);
  const { disk } = mounted;
  await using deployment = new Deployment();
  await using app = await applicationOf(deployment);
  await app.run(insert(2000));
  await deployment.start("run");
  await deployment.sync();
  const target = path.join(disk.path, "restored");
  const refused = await deployment.command("restore", "--target", target, "--to", "latest");
  expect(refused.code).toBe(1);
  expect(lastJson(refused.stderr)).toMatchObject({ ok: false, code: "DISK_FULL" });
  expect(fs.readdirSync(disk.path)).toEqual([]);
  disk.resize(100);
  expect(await deployment.answer("restore", "--target", target, "--to", "latest")).toMatchObject({ ok: true });
  expect(fs.existsSync(path.join(target, "app.db"))).toBe(true);
});

test("the disk of the agent's state is full: capture goes on and says so; a start after a kill has lost nothing", async () => {
  using mounted = new Mounted(8);
  const { disk } = mounted;
  await using deployment = new Deployment({ config: "heartbeat: 200ms\ngranularity: commit" });
  fs.symlinkSync(disk.path, deployment.state);
  await using app = await applicationOf(deployment);
  const agent = await deployment.start("run");
  expect(() => fs.writeFileSync(path.join(disk.path, "ballast"), new Uint8Array(8 * 1024 * 1024))).toThrow("ENOSPC");
  // Enough events for what is stored of quiet databases to be raised, and pages for an index that needs room.
  await app.run("INSERT INTO t VALUES (1, 2);".repeat(1100));
  await app.run(insert(300));
  await expectToSay(deployment, "cannot be stored: no room");
  await app.run(insert(10));
  expect(await deployment.difference()).toBeUndefined();
  expect(agent.output.stderr).not.toContain("retryInMs");
  await agent.kill9();
  disk.resize(100);
  await deployment.start("run");
  await app.run(insert(10));
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
});
