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
