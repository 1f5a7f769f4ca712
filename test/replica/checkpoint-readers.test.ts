import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { REPLICA_CONFIG } from "../support/replica-config.ts";
import { Process } from "../support/processes.ts";
import { applied, query, ReplicaFixture } from "../support/replica-fixture.ts";
import { waitFor } from "../support/wait.ts";

/** Reads in transactions of its own length, over and over: `reader FILE SECONDS`. */
const HOLDING_READER = `
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
first = True
while True:
    connection.execute("BEGIN")
    before = connection.execute("SELECT count(*), total(length(body)) FROM t").fetchone()
    if first:
        print("reading", flush=True)
        first = False
    time.sleep(float(sys.argv[2]))
    after = connection.execute("SELECT count(*), total(length(body)) FROM t").fetchone()
    connection.execute("COMMIT")
    if before != after:
        print("BROKEN", before, after, flush=True)
`;

/**
 * Reads as user 65534, who may not write to the database, -wal or -shm. SQLite gives such a reader READONLY_RECOVERY
 * or CANTINIT when a commit or a checkpoint falls between two of its looks (with writers of SQLite's own just the same):
 * it tries again.
 */
const OTHER_USER = `
import json, os, sqlite3, sys
os.setgid(65534)
os.setuid(65534)
assert not os.access(sys.argv[1] + "-shm", os.W_OK)
connection = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True, isolation_level=None, timeout=10)
print("reading", flush=True)
reads, rising, last, retries = 0, True, 0, 0
while True:
    ended = os.path.exists(sys.argv[2])
    try:
        (n,) = connection.execute("SELECT count(*) FROM t").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname not in ("SQLITE_READONLY_RECOVERY", "SQLITE_READONLY_CANTINIT") or retries == 20:
            raise RuntimeError(f"{error.sqlite_errorname} after {retries} retries, {reads} reads") from error
        retries += 1
        continue
    rising = rising and n >= last
    last = n
    reads += 1
    if ended:
        break
print(json.dumps([reads, rising, last]), flush=True)
`;

let fixture: ReplicaFixture;
const processes: Process[] = [];
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
});
afterEach(async () => {
  for (const each of processes.splice(0)) await each.kill();
  await fixture[Symbol.asyncDispose]();
});

async function python(program: string, ...args: string[]): Promise<Process> {
  const started = new Process("python3", ["-c", program, ...args]);
  processes.push(started);
  await waitFor("a first read", () => started.output.includes("reading"));
  return started;
}

test("four overlapping readers that never leave a gap: appending waits at the limit, then the checkpoint succeeds", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("a.db", primary);
  const walMaxBytes = 600_000;
  const agent = await fixture.ready({ config: { ...REPLICA_CONFIG, checkpointBytes: 100_000, walMaxBytes } });
  const file = fixture.file("a.db");
  const readers = await Promise.all(
    [0.11, 0.12, 0.13, 0.14].map((seconds) => python(HOLDING_READER, file, String(seconds))),
  );
  let waited = 0;
  for (let i = 1; i <= 120; i += 1) {
    primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(20000))");
    const at = await log.ship("a.db", primary);
    const shown = applied(agent, at);
    await Promise.race([shown, new Promise((resolve) => setTimeout(resolve, 5))]);
    if (agent.status().problem?.includes("readers keep the WAL")) waited += 1;
    await shown;
    expect(agent.status().databases[0]?.walBytes).toBeLessThan(walMaxBytes + 200_000);
  }
  expect(waited).toBeGreaterThan(0);
  expect(agent.status().problem).toBeUndefined();
  for (const each of readers) expect(each.output + each.errors).toBe("reading\n");
  expect(query(file, "SELECT count(*) FROM t")).toBe("120");
});

test("a long reader keeps its snapshot through appends and checkpoints", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(50000))");
  await log.ship("a.db", primary);
  const agent = await fixture.ready({
    config: { ...REPLICA_CONFIG, checkpointBytes: 50_000, walMaxBytes: 500_000_000 },
  });
  const reader = await python(HOLDING_READER, fixture.file("a.db"), "2");
  for (let i = 1; i <= 200; i += 1) {
    primary.connection.exec(
      "UPDATE t SET body = randomblob(50000) WHERE id = 1; INSERT INTO t (body) VALUES (randomblob(100))",
    );
    if (i % 50 === 0) primary.connection.exec("VACUUM");
    await applied(agent, await log.ship("a.db", primary));
  }
  await waitFor("the end of its read", () => agent.status().databases[0]?.walBytes === 0);
  expect(reader.output + reader.errors).toBe("reading\n");
});

test("a reader without write permission on -shm reads every state", async () => {
  // Becoming another user is root's right; the test is worth nothing without it.
  if (process.getuid?.() !== 0)
    throw new Error("this test reads as another user: run it as root (sudo ./scripts/test)");
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("a.db", primary);
  const agent = await fixture.ready({ config: { ...REPLICA_CONFIG, checkpointBytes: 60_000, walMaxBytes: 600_000 } });
  const file = fixture.file("a.db");
  const reader = await python(OTHER_USER, file, path.join(fixture.directory, "end"));
  for (let i = 1; i <= 400; i += 1) {
    primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(3000))");
    await applied(agent, await log.ship("a.db", primary));
  }
  fs.writeFileSync(path.join(fixture.directory, "end"), "");
  await reader.exited;
  expect(reader.errors).toBe("");
  const [reads = 0, rising = "", last = 0] = JSON.parse(reader.output.trim().split("\n").at(-1) ?? "[]");
  expect(reads).toBeGreaterThan(20);
  expect(rising).toBe(true);
  expect(last).toBe(400);
});
