import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { expect, test } from "vitest";

import { DEFAULT_BANK } from "../support/apps/bank.ts";
import { createBank, startWriter } from "../support/apps/bank-programs.ts";
import { Program, reportOf } from "../support/apps/program.ts";
import { bankDigest, Recorder } from "../support/apps/recorder.ts";
import type { WriterReport } from "../support/apps/writer.ts";
import { Deployment } from "../support/deployment.ts";
import { Random } from "../support/random.ts";
import { within } from "../support/wait.ts";

// The agent dies in the middle of a system call: of an append, a seal, a checkpoint, a store of its index.

const CALLS = ["pwrite64", "fsync", "ftruncate", "pread64"] as const;
const KILLS = 8;

test("capture is killed at system calls of its choice; every next start goes on", { timeout: 240_000 }, async () => {
  const random = new Random("capture-killed");
  await using deployment = new Deployment({ config: "wal: { seal: 64KiB }" });
  const { database } = deployment;
  const journal = path.join(deployment.directory, "journal");
  await createBank(database, DEFAULT_BANK);
  await using writer = await startWriter({ database, journal, writer: 1, bank: DEFAULT_BANK, rate: 200, burst: 4 });
  const died: string[] = [];
  for (let round = 0; round < KILLS; round += 1) {
    const call = CALLS[round % CALLS.length] ?? "pwrite64";
    const when = random.integer(1, call === "pread64" || call === "pwrite64" ? 300 : 12);
    // -D: the agent, not strace, is the process that we started and can kill.
    const strace = ["-D", "-f", "-qq", "-o", "/dev/null", "-e", `inject=${call}:signal=SIGKILL:when=${when}`];
    const command = deployment.commandLine("capture", "-c", deployment.configFile, "--json");
    await using agent = new Program(["strace", ...strace, "-e", `trace=${call}`, ...command]);
    // Some calls are rare: then a plain kill -9 after a while.
    await Promise.race([agent.exited, sleep(6000)]);
    died.push(`${call} ${when}: ${agent.running ? "killed" : "died"}`);
    await agent.end("SIGKILL");
  }
  process.stdout.write(`${died.join(", ")}\n`);
  expect(died.filter((line) => line.endsWith("died")).length).toBeGreaterThan(KILLS / 2);
  await deployment.start("capture");
  await deployment.start("replica");
  const report = await within("the writer ends", 20_000, reportOf<WriterReport>(writer));
  expect(report.busyErrors).toBe(0);
  expect(await deployment.difference()).toBeUndefined();
  const recorder = new Recorder(DEFAULT_BANK, [journal]);
  expect(bankDigest(deployment.standbyDatabase)).toEqual({
    seq: recorder.lastSeq,
    digest: recorder.digestAt(recorder.lastSeq),
  });
});
