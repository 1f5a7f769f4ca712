import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { DEFAULT_BANK } from "../support/apps/bank.ts";
import { createBank, startWriter } from "../support/apps/bank-programs.ts";
import { reportOf } from "../support/apps/program.ts";
import { bankDigest, Recorder } from "../support/apps/recorder.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import type { WriterReport } from "../support/apps/writer.ts";
import { CopyScene } from "../support/copy-scene.ts";
import { Deployment } from "../support/deployment.ts";
import { Random } from "../support/random.ts";

const MIB = 1024 * 1024;
const KILLS = 3;
const BANK = { ...DEFAULT_BANK, bodyBytes: 20_000, keepBodies: 1_000_000 };
/** What one transaction of the bank changes, at most. */
const PAGES_A_COMMIT = 8;

test("a first copy is killed again and again while the application writes: it goes on where it was", async () => {
  const random = new Random("copy-killed");
  await using deployment = new Deployment({ names: ["app.db", "other.db"], config: "copyRate: 16MiB" });
  const { database } = deployment;
  const scene = new CopyScene(deployment);
  await createBank(database, BANK);
  const journals = [1, 2].map((writer) => path.join(deployment.directory, `${writer}.journal`));
  const [filled = "", written = ""] = journals;
  const fill = { database, journal: filled, writer: 1, bank: BANK, rate: 1e6, burst: 100, limit: 1200 };
  await using filler = await startWriter(fill);
  await filler.exited;
  await using other = new SqlSession(deployment.pathOf("other.db"));
  await other.run("PRAGMA journal_mode=WAL");
  await other.run("CREATE TABLE t (value INTEGER)");
  const common = { database, journal: written, writer: 2, bank: BANK, burst: 2, autocheckpoint: 50 };
  await using writer = await startWriter({ ...common, rate: 20, truncateEvery: 60 });
  const databaseBytes = fs.statSync(database).size;

  for (let kill = 0; kill < KILLS; kill += 1) {
    const agent = deployment.launch("capture");
    await scene.grownBy(random.integer(2 * MIB, 0.27 * databaseBytes), agent);
    // Of another database between the parts.
    await other.run("INSERT INTO t VALUES (1)");
    await agent.kill9();
  }
  const replica = await deployment.start("replica");
  const agent = deployment.launch("capture");
  await scene.grownBy(MIB, agent);
  // In the middle of the transaction, of which it has parts of three agents.
  await replica.kill9();
  await agent.waitReady();
  await deployment.start("replica");
  const report = await reportOf<WriterReport>(writer);
  expect(report.busyErrors).toBe(0);
  expect(await deployment.difference()).toBeUndefined();

  const recorder = new Recorder(BANK, journals);
  expect(bankDigest(deployment.standbyDatabase)).toEqual({
    seq: recorder.lastSeq,
    digest: recorder.digestAt(recorder.lastSeq),
  });
  const shipped = await scene.shipped();
  const copy = shipped.find(({ body }) => body.kind === "sqlite.commit");
  const transactions = new Set(
    shipped.filter((one) => one.offset <= (copy?.offset ?? 0)).map((one) => one.body.transaction),
  );
  expect(transactions.size).toBe(1);
  const allowed = 1.1 * databaseBytes + report.commits * PAGES_A_COMMIT * 4096;
  process.stdout.write(
    `${databaseBytes} bytes, ${await scene.shippedBytes()} shipped, ${report.commits} commits meanwhile, ${allowed} allowed\n`,
  );
  expect(await scene.shippedBytes()).toBeLessThan(allowed);
  const restored = await deployment.restore(String(copy?.offset));
  const { seq, digest } = bankDigest(restored.database);
  expect(digest).toBe(recorder.digestAt(seq));
}, 120_000);
