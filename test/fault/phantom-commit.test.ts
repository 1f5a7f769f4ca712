import { expect, test } from "vitest";

import Database from "better-sqlite3";

import { SqlSession } from "../support/apps/sql-session.ts";
import { WalFault, type WalFaultOrder } from "../support/apps/wal-fault.ts";
import { Deployment } from "../support/deployment.ts";
import { restoreHere } from "../support/restore-here.ts";
import { waitFor } from "../support/wait.ts";
import { walFrames } from "../support/wal-frames.ts";

// An application killed, or given an error, at the fsync of a commit has written valid frames that no SQLite honours:
// the wal-index does not know them, and the next commit overwrites them.

const CASES: { kind: "node" | "python"; order: WalFaultOrder }[] = [
  { kind: "node", order: "sync kill" },
  { kind: "python", order: "sync kill" },
  { kind: "node", order: "sync EIO" },
  { kind: "python", order: "sync ENOSPC" },
];

function valuesIn(database: string): number[] {
  const connection = new Database(database, { readonly: true });
  const values = connection.prepare<[], number>("SELECT value FROM t ORDER BY rowid").pluck().all();
  connection.close();
  return values;
}

test.concurrent.for(CASES)(
  "$kind, $order: the phantom is never shipped, the six commits after it are",
  async ({ kind, order }) => {
    await using deployment = new Deployment();
    const { database } = deployment;
    const fault = new WalFault(deployment.directory);
    await using app = new SqlSession(database, { kind, env: fault.env });
    await app.run("PRAGMA journal_mode=WAL");
    await app.run("PRAGMA synchronous=FULL; CREATE TABLE t (value INTEGER); INSERT INTO t VALUES (1)");
    // Holds the wal-index alive as an application with several processes does.
    await using other = new SqlSession(database, { kind });
    expect(await other.value("SELECT count(*) FROM t")).toBe(1);
    await deployment.start("run");

    fault.order(order);
    await expect(app.run("INSERT INTO t VALUES (666)")).rejects.toThrow(
      order === "sync kill" ? /SIGKILL/ : /I\/O|full/,
    );
    fault.lift();
    const { committed, valid } = walFrames(database);
    expect(valid).toBeGreaterThan(committed);
    expect(await deployment.difference()).toBeUndefined();
    expect(valuesIn(deployment.standbyDatabase)).toEqual([1]);

    for (let value = 2; value <= 7; value += 1) await other.run(`INSERT INTO t VALUES (${value})`);
    expect(await deployment.difference()).toBeUndefined();
    expect(valuesIn(deployment.standbyDatabase)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(await deployment.repairs()).toBe(0);
    for (const { offset, body } of await deployment.events()) {
      if (body.kind !== "sqlite.commit") continue;
      const values = await restoreHere(deployment, { kind: "offset", offset }, valuesIn);
      expect(values).toEqual([1, 2, 3, 4, 5, 6, 7].slice(0, values.length));
    }
  },
);

test.concurrent("the agent killed and started again over a phantom does not ship it either", async () => {
  await using deployment = new Deployment();
  const { database } = deployment;
  const fault = new WalFault(deployment.directory);
  await using app = new SqlSession(database, { env: fault.env });
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("PRAGMA synchronous=FULL; CREATE TABLE t (value INTEGER); INSERT INTO t VALUES (1)");
  await using other = new SqlSession(database);
  await other.value("SELECT count(*) FROM t");
  const first = await deployment.start("run");
  await other.run("INSERT INTO t VALUES (2)");
  expect(await deployment.difference()).toBeUndefined();
  fault.order("sync kill");
  await expect(app.run("INSERT INTO t VALUES (666)")).rejects.toThrow(/SIGKILL/);
  const { committed, valid } = walFrames(database);
  expect(valid).toBeGreaterThan(committed);

  await first.kill9();
  await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  expect(valuesIn(deployment.standbyDatabase)).toEqual([1, 2]);
  for (let value = 3; value <= 8; value += 1) await other.run(`INSERT INTO t VALUES (${value})`);
  await waitFor("the standby has the last commit", () => valuesIn(deployment.standbyDatabase).length === 8);
  expect(await deployment.difference()).toBeUndefined();
});

test.concurrent("a write of frames that fails half way ships nothing", async () => {
  await using deployment = new Deployment();
  const fault = new WalFault(deployment.directory);
  await using app = new SqlSession(deployment.database, { kind: "python", env: fault.env });
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("PRAGMA cache_size=10; CREATE TABLE t (value INTEGER, body BLOB); INSERT INTO t VALUES (1, x'')");
  await deployment.start("run");
  // Spills frames of the open transaction into the WAL; then the disk is full.
  await app.run("BEGIN");
  await app.run(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO t SELECT 600 + i, randomblob(2000) FROM n",
  );
  fault.order("write ENOSPC");
  await expect(app.run("COMMIT")).rejects.toThrow(/full|I\/O/);
  fault.lift();
  await app.run("ROLLBACK").catch(() => undefined);
  expect(await deployment.difference()).toBeUndefined();
  for (let value = 2; value <= 7; value += 1) await app.run(`INSERT INTO t VALUES (${value}, randomblob(3000))`);
  expect(await deployment.difference()).toBeUndefined();
  expect(valuesIn(deployment.standbyDatabase)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(await deployment.repairs()).toBe(0);
});
