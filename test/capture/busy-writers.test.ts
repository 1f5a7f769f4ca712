import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { expect, test } from "vitest";

import { DEFAULT_BANK } from "../support/apps/bank.ts";
import { createBank, startWriter } from "../support/apps/bank-programs.ts";
import { bankDigest, Recorder } from "../support/apps/recorder.ts";
import type { WriterReport } from "../support/apps/writer.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { waitFor } from "../support/wait.ts";

const COMMITS = 3000;
/** What two writers write in a round, when nobody seals: 121 MB. */
const ROUND_WAL_BYTES = 120_000_000;

test(
  "writers at full speed: the WAL is sealed and stays bounded, every commit is counted",
  { timeout: 180_000 },
  async () => {
    await using deployment = new Deployment({ config: "wal: { seal: 1MiB }" });
    const { database } = deployment;
    await createBank(database, DEFAULT_BANK);
    await deployment.start("run");
    const journals: string[] = [];
    let largestWal = 0;
    // On a machine so busy that seals come late, until the WAL is no more than half of what was written.
    for (let round = 0; round === 0 || largestWal > (round * ROUND_WAL_BYTES) / 2; round += 1) {
      expect(round, "a WAL that grows on and on").toBeLessThan(5);
      const own = [1, 2].map((writer) => path.join(deployment.directory, `${round}-${writer}.journal`));
      const writers = await Promise.all(
        own.map(async (journal, index) =>
          startWriter({
            database,
            journal,
            writer: journals.length + index,
            bank: DEFAULT_BANK,
            rate: 1_000_000,
            burst: 1,
            limit: COMMITS,
          }),
        ),
      );
      await waitFor(
        "the writers are done",
        () => {
          largestWal = Math.max(largestWal, fs.statSync(`${database}-wal`).size);
          return writers.every((writer) => !writer.running);
        },
        { timeoutMs: 90_000 },
      );
      const reports = writers.map((writer) => JSON.parse(writer.lines.at(-1) ?? "") as WriterReport);
      process.stdout.write(`WAL at most ${largestWal} bytes, writers ${JSON.stringify(reports)}\n`);
      expect(reports.map(({ commits, busyErrors }) => [commits, busyErrors])).toEqual([
        [COMMITS, 0],
        [COMMITS, 0],
      ]);
      for (const writer of writers) await writer[Symbol.asyncDispose]();
      journals.push(...own);
    }
    expect(await deployment.difference()).toBeUndefined();
    expect(await deployment.repairs()).toBe(0);
    // Own checkpoints of the writers bound it too, sooner or later.
    expect((await deployment.status()).capture?.databases[0]?.seals).toBeGreaterThan(0);
    const commits = await deployment.commits();
    const counted = commits.reduce((sum, event) => sum + event.commits, 0);
    expect(counted).toBe(journals.length * COMMITS);
    const recorder = new Recorder(DEFAULT_BANK, journals);
    expect(bankDigest(deployment.standbyDatabase).digest).toBe(recorder.digestAt(journals.length * COMMITS));
  },
);

test(
  "a writer whose transactions of 20 ms leave no room between them, and that never checkpoints",
  { timeout: 120_000 },
  async () => {
    await using deployment = new Deployment({ config: "wal: { seal: 256KiB }" });
    await using app = new SqlSession(deployment.database);
    await app.run("PRAGMA journal_mode=WAL");
    await app.run("CREATE TABLE t (value INTEGER, body BLOB)");
    await app.run("PRAGMA wal_autocheckpoint=0");
    await deployment.start("run");
    let largestWal = 0;
    // 15 MB, and on a machine so busy that seals come late, until the WAL is no more than half of what was written.
    for (let round = 0; round < 150 || round * 100_000 < 2 * largestWal; round += 1) {
      await app.run("BEGIN IMMEDIATE");
      await app.run(`INSERT INTO t VALUES (${round}, randomblob(100000))`);
      await sleep(20);
      await app.run("COMMIT");
      largestWal = Math.max(largestWal, fs.statSync(`${deployment.database}-wal`).size);
      expect(round, "a WAL that grows on and on").toBeLessThan(1000);
    }
    expect(await deployment.difference()).toBeUndefined();
    expect(await deployment.repairs()).toBe(0);
  },
);

test("an application's own checkpoints get the right of way: its WAL begins anew, and every commit is counted", async () => {
  await using deployment = new Deployment();
  const { database } = deployment;
  await createBank(database, DEFAULT_BANK);
  await deployment.start("run");
  const journal = path.join(deployment.directory, "journal");
  const bank = DEFAULT_BANK;
  await using writer = await startWriter({
    database,
    journal,
    writer: 1,
    bank,
    rate: 1_000_000,
    burst: 1,
    limit: 8000,
  });
  await waitFor("the writer is done", () => !writer.running, { timeoutMs: 60_000 });
  expect(await deployment.difference()).toBeUndefined();
  const status = (await deployment.status()).capture?.databases[0];
  if (!status) throw new Error("status names no database");
  process.stdout.write(`right of way given ${status.ways} times, ${status.repairs} repairs\n`);
  expect(status.ways).toBeGreaterThan(0);
  const recorder = new Recorder(bank, [journal]);
  expect(bankDigest(deployment.standbyDatabase).digest).toBe(recorder.digestAt(8000));
  const counted = (await deployment.commits()).reduce((sum, event) => sum + event.commits, 0);
  // Where the processors were too busy and commits were written over, a repair says so; otherwise none is missing.
  if (status.repairs === 0) expect(counted).toBe(8000);
});
