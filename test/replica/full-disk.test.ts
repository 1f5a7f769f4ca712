import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { offset as toOffset } from "../../src/event/positions.ts";
import { readEvents } from "../../src/log/log-reader.ts";
import type { ReplicaAgent } from "../../src/replica/replica-agent.ts";
import { StandbyDatabase } from "../../src/replica/standby-database.ts";
import { prepareStandby } from "../../src/replica/standby-paths.ts";
import { StandbyState } from "../../src/replica/standby-state.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import type { ImagedDatabase } from "../support/database-images.ts";
import { applied, query, ReplicaFixture } from "../support/replica-fixture.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { waitFor } from "../support/wait.ts";

const FOREVER = new AbortController().signal;
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

const ZEROS = "SELECT count(*) FROM t WHERE body = zeroblob(3500)";

/** Of 2,000 rows of 3,500 zeros, about a page each; the spool is on a disk of so many MiB when the replica is up. */
async function withSmallSpool(
  mebibytes: number,
): Promise<{ primary: ImagedDatabase; disk: SmallDisk; agent: ReplicaAgent }> {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  primary.connection.exec(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT i, zeroblob(3500) FROM n",
  );
  await log.ship("a.db", primary);
  const disk = new SmallDisk(fixture.directory, 64);
  fs.mkdirSync(path.join(fixture.standby, ".tidemark"), { recursive: true });
  fs.symlinkSync(disk.path, path.join(fixture.standby, ".tidemark", "spool"));
  const agent = await fixture.ready();
  disk.resize(mebibytes);
  return { primary, disk, agent };
}

test("the parts of a large transaction take their room once", async () => {
  const { primary, disk, agent } = await withSmallSpool(12);
  using _ = disk;
  primary.connection.exec("UPDATE t SET body = randomblob(3500)");
  await applied(agent, await fixture.log.ship("a.db", primary));
  expect(agent.status()).toMatchObject({ problem: undefined });
  expect(query(fixture.file("a.db"), ZEROS)).toBe("0");
});

test("no room for a large transaction: readers see none of it, not half", async () => {
  const { primary, disk, agent } = await withSmallSpool(6);
  using _ = disk;
  primary.connection.exec("UPDATE t SET body = randomblob(3500)");
  const at = await fixture.log.ship("a.db", primary);
  await waitFor("the problem in the status", () => agent.status().problem?.includes("no room on the disk"));
  expect(query(fixture.file("a.db"), ZEROS)).toBe("2000");
  expect(agent.status().offset).toBeLessThan(at);
  disk.resize(64);
  await agent.waitApplied(at, AbortSignal.timeout(60_000));
  expect(query(fixture.file("a.db"), ZEROS)).toBe("0");
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(fixture.file("a.db")), primary.image)).toBe(0);
});

test("no room to gather a commit behind others: what was gathered of it is never shown", async () => {
  const { primary, disk } = await withSmallSpool(12);
  using _ = disk;
  await fixture.stop();
  primary.connection.exec("UPDATE t SET body = zeroblob(3400) WHERE id = 1");
  const first = await fixture.log.ship("a.db", primary);
  primary.connection.exec("UPDATE t SET body = randomblob(3500)");
  await fixture.log.ship("a.db", primary);
  const database = standbyDatabase("a.db");
  const take = async (): Promise<void> => {
    for await (const events of readEvents(fixture.log.log, {
      after: toOffset(first - 1),
      follow: false,
      signal: FOREVER,
    }))
      for (const event of events) {
        if (event.body.kind === "sqlite.part") database.takePart(event, event.body);
        if (event.body.kind === "sqlite.commit") database.takeCommit(event, event.body);
      }
  };
  try {
    await expect(take()).rejects.toMatchObject({ code: "ENOSPC" });
    expect(database.torn).toBe(true);
    await expect(database.show()).rejects.toThrow("half a commit");
  } finally {
    database.close();
  }
  expect(query(fixture.file("a.db"), ZEROS)).toBe("2000");
});

/** As a replica that starts has it, with the state that the one before left. */
function standbyDatabase(name: string): StandbyDatabase {
  const paths = prepareStandby(fixture.standby);
  const state = new StandbyState(paths);
  const seed = fixture.log.writer.checksumSeed;
  const options = { name, path: fixture.file(name), paths, state, seed, clock: systemClock, replaceFile: false };
  return new StandbyDatabase(options);
}
