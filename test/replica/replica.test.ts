import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";

import type { Offset } from "../../src/event/positions.ts";
import { startReplica } from "../../src/replica/start-replica.ts";
import type { ReplicaAgent } from "../../src/replica/replica-agent.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { ImagedDatabase } from "../support/database-images.ts";
import { PageDiffLog } from "../support/page-diff-log.ts";

const MIB = 1024 * 1024;
let directory: string;
let log: PageDiffLog;
let standby: string;
let stop: AbortController;

beforeEach(async () => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-replica-"));
  standby = path.join(directory, "standby");
  log = await PageDiffLog.open(path.join(directory, "log"));
  stop = new AbortController();
});
afterEach(async () => {
  await log[Symbol.asyncDispose]();
  fs.rmSync(directory, { recursive: true, force: true });
});

function start(options: { reseed?: boolean } = {}): Promise<ReplicaAgent> {
  stop = new AbortController();
  return startReplica({
    set: "app",
    directory: standby,
    config: { checkpointBytes: 4 * MIB, walMaxBytes: 64 * MIB },
    log: log.log,
    logger: pino({ enabled: false }),
    clock: systemClock,
    signal: stop.signal,
    ...options,
  });
}

async function stopped(agent: ReplicaAgent): Promise<void> {
  stop.abort();
  await agent.done;
}

function applied(agent: ReplicaAgent, at: Offset): Promise<void> {
  return agent.waitApplied(at, AbortSignal.timeout(20_000));
}

function query(file: string, sql: string): string {
  return execFileSync("sqlite3", ["-readonly", file, sql], { encoding: "utf8" }).trim();
}

function source(name: string, pageSize = 4096): ImagedDatabase {
  const file = path.join(directory, "primary", name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const database = new ImagedDatabase(file, pageSize);
  database.connection.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body BLOB)");
  return database;
}

test("a copy and commits appear on the standby, through stop and start", async () => {
  const primary = source("tenants/a.db");
  await log.ship("tenants/a.db", primary);
  const first = await start();
  await first.ready;
  const file = path.join(standby, "tenants/a.db");
  for (let i = 1; i <= 50; i += 1) {
    primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(3000))");
    const at = await log.ship("tenants/a.db", primary);
    await applied(first, at);
    if (i % 10 === 0) expect(query(file, "SELECT count(*) FROM t")).toBe(String(i));
  }
  expect(first.status()).toMatchObject({ state: "following", verified: true, lagEvents: 0, problem: undefined });
  await stopped(first);
  expect(first.status().state).toBe("stopped");
  expect(Buffer.compare(fs.readFileSync(file), primary.image)).toBe(0);
  primary.connection.exec("DELETE FROM t WHERE id > 10; VACUUM");
  const at = await log.ship("tenants/a.db", primary);
  const second = await start();
  await second.ready;
  expect(second.status().offset).toBe(at);
  expect(query(file, "SELECT count(*) FROM t")).toBe("10");
  await stopped(second);
  expect(Buffer.compare(fs.readFileSync(file), primary.image)).toBe(0);
  primary.close();
});
