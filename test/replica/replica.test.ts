import fs from "node:fs";

import { afterEach, beforeEach, expect, test } from "vitest";

import { LogWriter } from "../../src/log/log-writer.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { Process } from "../support/processes.ts";
import { applied, failure, query, ReplicaFixture } from "../support/replica-fixture.ts";
import { waitFor } from "../support/wait.ts";

let fixture: ReplicaFixture;
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
});
afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

test("a copy and commits appear on the standby, through stop and start", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("tenants/a.db", primary);
  const first = await fixture.ready();
  const file = fixture.file("tenants/a.db");
  for (let i = 1; i <= 50; i += 1) {
    primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(3000))");
    await applied(first, await log.ship("tenants/a.db", primary));
    if (i % 10 === 0) expect(query(file, "SELECT count(*) FROM t")).toBe(String(i));
  }
  expect(first.status()).toMatchObject({ state: "following", verified: true, lagEvents: 0, problem: undefined });
  await fixture.stop();
  expect(first.status().state).toBe("stopped");
  expect(Buffer.compare(fs.readFileSync(file), primary.image)).toBe(0);
  primary.connection.exec("DELETE FROM t WHERE id > 10; VACUUM");
  const at = await log.ship("tenants/a.db", primary);
  const second = await fixture.ready();
  expect(second.status().offset).toBe(at);
  expect(query(file, "SELECT count(*) FROM t")).toBe("10");
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(file), primary.image)).toBe(0);
});

test("a transaction that is open while the epoch changes is read again after a restart, and gone on with", async () => {
  const { log } = fixture;
  const [large, other] = [fixture.source("a.db"), fixture.source("b.db")];
  await log.ship("b.db", other);
  large.connection.exec("INSERT INTO t (body) VALUES (randomblob(3000000))");
  const bodies = log.commitBodies("a.db", { pages: large.allPages(), cause: "copy", database: large });
  await log.append(bodies.slice(0, 3));
  other.connection.exec("INSERT INTO t (body) VALUES (randomblob(3000))");
  const otherBodies = log.commitBodies("b.db", { pages: other.changes(), cause: "commit", database: other });
  const next = await LogWriter.open({
    log: log.log,
    set: "app",
    identity: { writer: "00000000-0000-4000-8000-000000000002", host: "test" },
    known: undefined,
    clock: systemClock,
    signal: new AbortController().signal,
    foreignWriterGraceMs: 0,
    takeover: true,
  });
  expect(next.epoch).toBe(2);
  const at = await next.append(otherBodies).acknowledged;
  await applied(await fixture.ready(), at);
  await fixture.stop();
  const again = await fixture.ready();
  expect(again.status()).toMatchObject({ problem: undefined });
  await applied(again, await next.append(bodies.slice(3)).acknowledged);
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(fixture.file("a.db")), large.image)).toBe(0);
  expect(Buffer.compare(fs.readFileSync(fixture.file("b.db")), other.image)).toBe(0);
});

test("a transaction of many parts is spooled, and visible only with its commit", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("a.db", primary);
  const agent = await fixture.ready();
  primary.connection.exec(
    "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 40) INSERT INTO t (body) SELECT randomblob(1000000) FROM c",
  );
  const bodies = log.commitBodies("a.db", { pages: primary.changes(), cause: "commit", database: primary });
  expect(bodies.length).toBeGreaterThan(50);
  await applied(agent, await log.append(bodies.slice(0, -1)));
  expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe("0");
  // Stopped within the transaction: the next start reads its parts again.
  await fixture.stop();
  const again = await fixture.ready();
  await applied(again, await log.append(bodies.slice(-1)));
  expect(query(fixture.file("a.db"), "SELECT count(*), sum(length(body)) FROM t")).toBe("40|40000000");
  expect(fs.readdirSync(fixture.file(".tidemark/spool"))).toEqual([]);
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(fixture.file("a.db")), primary.image)).toBe(0);
});

test("parts whose transaction never closed are void when another one begins", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("a.db", primary);
  const agent = await fixture.ready();
  const page = { pageNumber: 2, data: new Uint8Array(4096).fill(7) };
  await log.append([
    { kind: "sqlite.part", database: "a.db", transaction: 77, sequence: 0, pageSize: 4096, pages: [page] },
  ]);
  primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(3000))");
  await applied(agent, await log.ship("a.db", primary));
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(fixture.file("a.db")), primary.image)).toBe(0);
});

test("a later full copy of the same page size goes through the WAL, another page size makes a new file", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db", 1024);
  await log.ship("a.db", primary);
  const agent = await fixture.ready();
  const inode = fs.statSync(fixture.file("a.db")).ino;
  primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(30000))");
  await applied(agent, await log.copy("a.db", primary));
  expect(fs.statSync(fixture.file("a.db")).ino).toBe(inode);
  expect(query(fixture.file("a.db"), "SELECT length(body) FROM t")).toBe("30000");
  const larger = fixture.source("a.db", 8192);
  larger.connection.exec("INSERT INTO t (body) VALUES (randomblob(123))");
  await applied(agent, await log.copy("a.db", larger));
  expect(query(fixture.file("a.db"), "SELECT length(body) FROM t")).toBe("123");
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(fixture.file("a.db")), larger.image)).toBe(0);
});

test("marks and heartbeats move the position, a stopped wait says so", async () => {
  const { log } = fixture;
  await log.ship("a.db", fixture.source("a.db"));
  const agent = await fixture.ready();
  const at = await log.append([{ kind: "mark", name: "release" }]);
  await applied(agent, at);
  expect(agent.status().offset).toBe(at);
  const never = failure(agent.waitApplied((at + 1) as typeof at, new AbortController().signal));
  await fixture.stop();
  expect((await never).code).toBe("INTERRUPTED");
});

test("several databases of a set are each followed", async () => {
  const { log } = fixture;
  const names = ["app.db", "tenants/one.db", "tenants/two.db"];
  const primaries = names.map((name, i) => fixture.source(`db${i}`, name === "app.db" ? 4096 : 512));
  const agent = await fixture.start();
  for (let round = 0; round < 20; round += 1) {
    for (const [i, name] of names.entries()) {
      primaries[i]?.connection.exec(`INSERT INTO t (body) VALUES (randomblob(${500 * (i + 1)}))`);
      if (primaries[i]) await log.ship(name, primaries[i]);
    }
  }
  await agent.ready;
  await applied(agent, log.writer.head);
  await fixture.stop();
  for (const [i, name] of names.entries()) {
    expect(Buffer.compare(fs.readFileSync(fixture.file(name)), primaries[i]?.image ?? new Uint8Array())).toBe(0);
  }
});

test("a copy with another page size waits for the readers of the old file, then replaces it", async () => {
  const { log } = fixture;
  await log.ship("a.db", fixture.source("a.db", 1024));
  const agent = await fixture.ready();
  const file = fixture.file("a.db");
  const program =
    "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM t'); print('open', flush=True); time.sleep(60)";
  const reader = new Process("python3", ["-c", program, file]);
  await waitFor("the reader", () => reader.output.includes("open"));
  const larger = fixture.source("a.db", 8192);
  const at = await log.copy("a.db", larger);
  await waitFor("the problem in the status", () => agent.status().problem?.includes("a reader has it open"));
  await reader.kill();
  await applied(agent, at);
  expect(query(file, "PRAGMA page_size")).toBe("8192");
  expect(agent.status().problem).toBeUndefined();
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(file), larger.image)).toBe(0);
});
