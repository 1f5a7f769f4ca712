import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { expect, test } from "vitest";

import { DEFAULT_BANK } from "../support/apps/bank.ts";
import { createBank, startWriter } from "../support/apps/bank-programs.ts";
import { reportOf } from "../support/apps/program.ts";
import type { WriterReport } from "../support/apps/writer.ts";
import { Deployment } from "../support/deployment.ts";
import { NatsServer } from "../support/nats-server.ts";

// P8: the same application twice at the same time, so that a busy machine disturbs both: one is replicated, the other is not.

const RUN_MS = 5_000;
/** A pin or a lock in the way is felt for as long as the application's busy timeout, five seconds. */
const MARGIN_MS = 1_000;
const KINDS = [{ autocheckpoint: 50 }, { truncateEvery: 40 }, { autocheckpoint: 1000 }];

interface Life {
  readonly reports: readonly WriterReport[];
  readonly largestWal: number;
}

/** Three writers of different habits for a while. */
async function lifeOf(directory: string): Promise<Life> {
  const database = path.join(directory, "app.db");
  const options = { database, bank: DEFAULT_BANK, rate: 60, burst: 2 };
  const writers = await Promise.all(
    KINDS.map(async (kind, writer) =>
      startWriter({ ...options, ...kind, writer, journal: path.join(directory, "..", `${writer}.journal`) }),
    ),
  );
  let largestWal = 0;
  for (let looks = 0; looks < 60; looks += 1) {
    await sleep(RUN_MS / 60);
    largestWal = Math.max(largestWal, fs.statSync(`${database}-wal`).size);
  }
  return { reports: await Promise.all(writers.map(async (writer) => reportOf<WriterReport>(writer))), largestWal };
}

/** The log is there, says nothing for a while, is gone for a while, and comes back. */
async function trouble(server: NatsServer): Promise<void> {
  await sleep(RUN_MS * 0.2);
  server.pause();
  await sleep(RUN_MS * 0.25);
  server.resume();
  await sleep(RUN_MS * 0.1);
  await server.kill();
  await sleep(RUN_MS * 0.25);
  await server.start();
}

test("an application beside its control run: no error more, no long stall more, no endless WAL, also while the log is away", async () => {
  await using server = await NatsServer.start();
  await using replicated = new Deployment({ nats: server.address, config: "wal: { seal: 256KiB }" });
  await using control = new Deployment();
  for (const { database } of [replicated, control]) await createBank(database, DEFAULT_BANK);
  await replicated.start("capture");
  const [alone, beside] = await Promise.all([
    lifeOf(control.databaseDirectory),
    lifeOf(replicated.databaseDirectory),
    trouble(server),
  ]);
  process.stdout.write(`alone ${JSON.stringify(alone)}\nbeside ${JSON.stringify(beside)}\n`);
  for (const [writer, report] of beside.reports.entries()) {
    const { worstMs = 0, worstTruncateMs = 0, commits = 0 } = alone.reports[writer] ?? {};
    expect({ writer, busyErrors: report.busyErrors }).toEqual({ writer, busyErrors: 0 });
    expect(report.worstMs).toBeLessThan(2 * worstMs + MARGIN_MS);
    expect(report.worstTruncateMs).toBeLessThan(2 * worstTruncateMs + MARGIN_MS);
    expect(report.commits).toBeGreaterThan(0.6 * commits);
  }
  expect(beside.largestWal).toBeLessThan(2 * alone.largestWal + 16 * 1024 * 1024);
  await replicated.start("replica");
  expect(await replicated.difference()).toBeUndefined();
});
