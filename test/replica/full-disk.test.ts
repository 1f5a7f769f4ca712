import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { query, ReplicaFixture } from "../support/replica-fixture.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { waitFor } from "../support/wait.ts";

let fixture: ReplicaFixture;
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
});
afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

test("a full disk stops apply without harm, and it goes on when there is room", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("a.db", primary);
  using disk = new SmallDisk(fixture.directory, 10);
  fs.symlinkSync(disk.path, fixture.standby);
  const ballast = path.join(disk.path, "ballast");
  fs.writeFileSync(ballast, new Uint8Array(8 * 1024 * 1024));
  const agent = await fixture.ready();
  let at = log.writer.head;
  for (let i = 0; i < 60; i += 1) {
    primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(50000))");
    at = await log.ship("a.db", primary);
  }
  await waitFor("the problem in the status", () => agent.status().problem?.includes("no room on the disk"));
  expect(query(fixture.file("a.db"), "PRAGMA integrity_check")).toBe("ok");
  fs.rmSync(ballast);
  await agent.waitApplied(at, AbortSignal.timeout(60_000));
  expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe("60");
  expect(agent.status()).toMatchObject({ problem: undefined, verified: true });
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(fixture.file("a.db")), primary.image)).toBe(0);
});

test("no room for a large transaction beside its parts: readers see none of it, not half", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  const { connection } = primary;
  connection.exec(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT i, zeroblob(3500) FROM n",
  );
  await log.ship("a.db", primary);
  using disk = new SmallDisk(fixture.directory, 64);
  fs.mkdirSync(path.join(fixture.standby, ".tidemark"), { recursive: true });
  fs.symlinkSync(disk.path, path.join(fixture.standby, ".tidemark", "spool"));
  const agent = await fixture.ready();
  disk.resize(12);
  connection.exec("UPDATE t SET body = randomblob(3500)");
  const at = await log.ship("a.db", primary);
  await waitFor("the problem in the status", () => agent.status().problem?.includes("no room on the disk"));
  const zeros = "SELECT count(*) FROM t WHERE body = zeroblob(3500)";
  const offset = agent.status().offset;
  expect(query(fixture.file("a.db"), zeros)).toBe("2000");
  expect(offset).toBeLessThan(at);
  disk.resize(64);
  await agent.waitApplied(at, AbortSignal.timeout(60_000));
  expect(query(fixture.file("a.db"), zeros)).toBe("0");
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(fixture.file("a.db")), primary.image)).toBe(0);
});
