import path from "node:path";

import { expect, test } from "vitest";

import { DEFAULT_BANK } from "../support/apps/bank.ts";
import { createBank, startReader, startWriter } from "../support/apps/bank-programs.ts";
import { reportOf } from "../support/apps/program.ts";
import type { ReaderReport } from "../support/apps/reader.ts";
import { bankDigest, Recorder } from "../support/apps/recorder.ts";
import type { WriterReport } from "../support/apps/writer.ts";
import { Deployment } from "../support/deployment.ts";

const BANK = { ...DEFAULT_BANK, bodyBytes: 2500, keepBodies: 1_000_000 };

test("a first copy that takes seconds under constant writes is one exact state", { timeout: 120_000 }, async () => {
  await using deployment = new Deployment({ config: "copyRate: 2MiB" });
  const { database, standbyDatabase } = deployment;
  await createBank(database, BANK);
  const journals = [1, 2, 3].map((writer) => path.join(deployment.directory, `${writer}.journal`));
  const [filled = "", first = "", second = ""] = journals;
  await using filler = await startWriter({
    database,
    journal: filled,
    writer: 1,
    bank: BANK,
    rate: 10_000,
    burst: 100,
    limit: 2500,
  });
  await filler.exited;

  const common = { database, bank: BANK, rate: 60, burst: 6 };
  await using truncating = await startWriter({ ...common, journal: first, writer: 2, truncateEvery: 40 });
  await using checkpointing = await startWriter({ ...common, journal: second, writer: 3, autocheckpoint: 20 });
  await using reader = await startReader({ database: standbyDatabase, bank: BANK, everyMs: 20, reopenEvery: 10 });
  const startedMs = performance.now();
  const agent = deployment.launch("run");
  await agent.waitReady(60_000);
  // 8 MB and more at 2 MiB a second.
  expect(performance.now() - startedMs).toBeGreaterThan(2500);
  const reports = [await reportOf<WriterReport>(truncating), await reportOf<WriterReport>(checkpointing)];
  expect(reports.map((report) => report.busyErrors)).toEqual([0, 0]);
  expect(await deployment.difference()).toBeUndefined();
  expect((await reportOf<ReaderReport>(reader)).violations).toEqual([]);

  const recorder = new Recorder(BANK, journals);
  const events = await deployment.events();
  const copy = events.find(({ body }) => body.kind === "sqlite.commit");
  expect(copy?.body).toMatchObject({ kind: "sqlite.commit", cause: "copy" });
  const restored = await deployment.restore(String(copy?.offset));
  const { seq, digest } = bankDigest(restored.database);
  expect(seq).toBeGreaterThan(2500);
  expect(digest).toBe(recorder.digestAt(seq));
});
