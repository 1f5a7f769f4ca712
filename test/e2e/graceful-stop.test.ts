import path from "node:path";

import { expect, test } from "vitest";

import { DEFAULT_BANK } from "../support/apps/bank.ts";
import { createBank, startWriter } from "../support/apps/bank-programs.ts";
import { reportOf } from "../support/apps/program.ts";
import { bankDigest, Recorder } from "../support/apps/recorder.ts";
import type { WriterReport } from "../support/apps/writer.ts";
import { comparePages } from "../support/compare.ts";
import { Deployment } from "../support/deployment.ts";
import { waitFor } from "../support/wait.ts";

test.concurrent.for(["SIGTERM", "SIGINT"] as const)("%s: every commit made before is in the log", async (signal) => {
  await using deployment = new Deployment();
  const { database } = deployment;
  const journal = path.join(deployment.directory, "journal");
  await createBank(database, DEFAULT_BANK);
  const agent = await deployment.start("run");
  await using writer = await startWriter({ database, journal, writer: 1, bank: DEFAULT_BANK, rate: 500, burst: 5 });
  await waitFor("commits are there", () => new Recorder(DEFAULT_BANK, [journal]).lastSeq > 300);
  const signalledMs = Date.now();
  agent.child.kill(signal);
  const { code } = await agent.exited;
  expect(code).toBe(0);
  expect((await reportOf<WriterReport>(writer)).busyErrors).toBe(0);

  const recorder = new Recorder(DEFAULT_BANK, [journal]);
  const { database: restored } = await deployment.restore("latest");
  const { seq, digest } = bankDigest(restored);
  expect(seq).toBeGreaterThanOrEqual(recorder.lastEndedBefore(signalledMs));
  expect(digest).toBe(recorder.digestAt(seq));
  // The next start goes on from there.
  await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  expect(comparePages(database, deployment.standbyDatabase)).toBeUndefined();
});

test.concurrent("a mark names a moment that a restore goes back to; sync waits for what was committed", async () => {
  await using deployment = new Deployment();
  const { database } = deployment;
  const journal = path.join(deployment.directory, "journal");
  await createBank(database, DEFAULT_BANK);
  await deployment.start("run");
  const writeSome = async (writer: number): Promise<number> => {
    await using program = await startWriter({
      database,
      journal,
      writer,
      bank: DEFAULT_BANK,
      rate: 1000,
      burst: 10,
      limit: 100,
    });
    await program.exited;
    return new Recorder(DEFAULT_BANK, [journal]).lastSeq;
  };
  const first = await writeSome(1);
  await deployment.answer("mark", "after-first");
  const second = await writeSome(2);
  await deployment.answer("sync", "--applied");
  expect(bankDigest(deployment.standbyDatabase).seq).toBe(second);
  const recorder = new Recorder(DEFAULT_BANK, [journal]);
  const marked = await deployment.restore("mark:after-first");
  expect(bankDigest(marked.database)).toEqual({ seq: first, digest: recorder.digestAt(first) });
  expect(marked.report).toMatchObject({
    ok: true,
    databases: [{ name: "app.db", integrity: "ok", foreignKeys: "ok" }],
  });
  const again = await deployment.command("mark", "after-first");
  expect(again.code).toBe(1);
  expect(again.stderr).toContain("MARK_EXISTS");
});
