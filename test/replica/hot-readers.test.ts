import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";

import { startReplica } from "../../src/replica/start-replica.ts";
import { sleep, systemClock } from "../../src/runtime/clock.ts";
import type { CrashPoint } from "../../src/runtime/crash-point.ts";
import { REPLICA_CONFIG } from "../support/replica-config.ts";
import { BankDatabase } from "../support/bank-database.ts";
import { PageDiffLog } from "../support/page-diff-log.ts";
import { Process } from "../support/processes.ts";
import { replicaProcess } from "../support/replica-process.ts";
import { waitFor } from "../support/wait.ts";

const READER = path.join(import.meta.dirname, "../support/standby-reader.py");
let directory: string;
let log: PageDiffLog;
let bank: BankDatabase;
let standbyFile: string;
const processes: Process[] = [];

async function open(): Promise<void> {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-readers-"));
  log = await PageDiffLog.open(path.join(directory, "log"));
  bank = new BankDatabase(path.join(directory, "bank.db"));
  standbyFile = path.join(directory, "standby", "bank.db");
}

async function close(): Promise<void> {
  for (const process of processes.splice(0)) await process.kill();
  bank.close();
  await log[Symbol.asyncDispose]();
  fs.rmSync(directory, { recursive: true, force: true });
}

function run(command: string, ...args: string[]): Process {
  const started = new Process(command, args);
  processes.push(started);
  return started;
}

async function reader(holdMs = 0): Promise<Process> {
  const started = run("python3", READER, standbyFile, String(holdMs));
  await waitFor("a first read", () => started.output.includes("reading"));
  return started;
}

async function verdict(started: Process): Promise<{ reads: number; versions: number; broken: string[] }> {
  const output = await started.stop();
  return JSON.parse(output.trim().split("\n").at(-1) ?? "null");
}

test("readers in other processes never see a broken state through a thousand events and many checkpoints", async () => {
  await open();
  onTestFinished(close);
  await log.ship("bank.db", bank);
  const stop = new AbortController();
  const agent = await startReplica({
    set: "app",
    directory: path.dirname(standbyFile),
    config: { ...REPLICA_CONFIG, checkpointBytes: 200_000, walMaxBytes: 8_000_000 },
    log: log.log,
    logger: pino({ enabled: false }),
    clock: systemClock,
    signal: stop.signal,
  });
  await agent.ready;
  const readers = [await reader(), await reader(), await reader(15)];
  let emptied = 0;
  let walBytes = 0;
  for (let i = 1; i <= 1000; i += 1) {
    bank.transact();
    const at = await log.ship("bank.db", bank);
    if (i % 5 !== 0) continue;
    await agent.waitApplied(at, AbortSignal.timeout(20_000));
    const now = agent.status().databases[0]?.walBytes ?? 0;
    if (now < walBytes) emptied += 1;
    walBytes = now;
  }
  for (const each of readers) {
    const { reads, versions, broken } = await verdict(each);
    expect(broken).toEqual([]);
    expect(reads).toBeGreaterThan(50);
    expect(versions).toBeGreaterThan(20);
  }
  expect(emptied).toBeGreaterThan(2);
  expect(agent.status().problem).toBeUndefined();
  stop.abort();
  await agent.done;
  expect(Buffer.compare(fs.readFileSync(standbyFile), bank.image)).toBe(0);
}, 120_000);

const POINTS: readonly CrashPoint[] = [
  "append: wal header",
  "append: frames",
  "append: page numbers",
  "append: hash table",
  "append: header copy 2",
  "append: header copy 1",
  "append: unlocked",
  "standby: synced",
  "standby: recorded",
];

function replica(point?: CrashPoint, count?: number): Process {
  const places = { log: path.join(directory, "log"), standby: path.dirname(standbyFile) };
  const started = replicaProcess(places, point, count);
  processes.push(started);
  return started;
}

async function readyReplica(): Promise<Process> {
  const started = replica();
  await waitFor("ready", () => started.output.includes("ready"));
  return started;
}

/** One set of readers sees all the deaths, so that also what one leaves to the next is seen. */
describe("killed again and again, with readers there all the time", () => {
  let readers: Process[];
  beforeAll(async () => {
    await open();
    await log.ship("bank.db", bank);
    const first = await readyReplica();
    readers = [await reader(), await reader(5)];
    await first.stop();
  });
  afterAll(close);

  for (const point of POINTS) {
    test(`a replica killed at ${point} twice goes on`, async () => {
      for (const round of [1, 2]) {
        const victim = replica(point, point === "append: wal header" ? 1 : round);
        for (let i = 0; victim.child.exitCode === null && victim.child.signalCode === null; i += 1) {
          bank.transact();
          await log.ship("bank.db", bank);
          // The readers and we would take both processors from it.
          await sleep(2);
          if (i > 20_000) throw new Error(`never came to ${point}`);
        }
        expect((await victim.exited).signal).toBe("SIGKILL");
      }
    });
  }

  test("a replica killed at any moment goes on", async () => {
    for (let round = 1; round <= 4; round += 1) {
      const victim = await readyReplica();
      const transactions = Math.ceil(Math.random() * 80);
      for (let i = 0; i < transactions; i += 1) {
        bank.transact();
        await log.ship("bank.db", bank);
      }
      await victim.kill();
    }
  });

  test("no reader saw an old or a half state, and the next start has it all", async () => {
    const last = await readyReplica();
    for (const each of readers) {
      const { broken, reads } = await verdict(each);
      expect(broken).toEqual([]);
      expect(reads).toBeGreaterThan(20);
    }
    await last.stop();
    expect(Buffer.compare(fs.readFileSync(standbyFile), bank.image)).toBe(0);
  });
});
