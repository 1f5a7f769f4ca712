import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import type { SqliteCommit } from "../../src/event/kinds.ts";
import { offset } from "../../src/event/positions.ts";
import { Process } from "../support/processes.ts";
import { replicaProcess } from "../support/replica-process.ts";
import { PageDiffLog } from "../support/page-diff-log.ts";
import { applied, failure, query, ReplicaFixture } from "../support/replica-fixture.ts";
import { waitFor, within } from "../support/wait.ts";

let fixture: ReplicaFixture;
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
});
afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

test("an event that does not lead to its checksum is never shown, and named with both values", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("a.db", primary);
  const agent = await fixture.ready();
  primary.connection.exec("INSERT INTO t (body) VALUES ('good')");
  await log.ship("a.db", primary);
  primary.connection.exec("INSERT INTO t (body) VALUES ('bad')");
  const bodies = log.commitBodies("a.db", { pages: primary.changes(), cause: "commit", database: primary });
  const bad = { ...(bodies[0] as SqliteCommit), after: 0xbadn };
  const at = await log.append([bad]);
  const error = await within("a halt", 10_000, failure(agent.done));
  expect(error.code).toBe("CHECKSUM_MISMATCH");
  expect(error.message).toContain(`a.db at offset ${at}`);
  expect(error.message).toMatch(/[0-9a-f]{16}, the log says 0000000000000bad/);
  expect(agent.status()).toMatchObject({ state: "halted", verified: false });
  expect(query(fixture.file("a.db"), "SELECT body FROM t")).toBe("good");
  const again = await fixture.start();
  expect((await failure(again.done)).code).toBe("CHECKSUM_MISMATCH");
  expect(query(fixture.file("a.db"), "SELECT body FROM t")).toBe("good");
});

test("an event that does not begin where the standby is, is refused", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("a.db", primary);
  const agent = await fixture.ready();
  const bodies = log.commitBodies("a.db", { pages: primary.changes(), cause: "commit", database: primary });
  await log.append([{ ...(bodies[0] as SqliteCommit), before: 1n }]);
  expect((await failure(agent.done)).message).toContain("before the event");
});

test("a stranger's write is found at the next event", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("a.db", primary);
  const agent = await fixture.ready();
  primary.connection.exec("INSERT INTO t (body) VALUES (1)");
  await applied(agent, await log.ship("a.db", primary));
  const stranger = new Process("sqlite3", [fixture.file("a.db"), "INSERT INTO t (body) VALUES ('stranger')"]);
  expect((await stranger.exited).code).toBe(0);
  primary.connection.exec("INSERT INTO t (body) VALUES (2)");
  await log.ship("a.db", primary);
  const error = await within("a halt", 10_000, failure(agent.done));
  expect(error.code).toBe("STANDBY_WRITTEN");
  expect(error.hint).toContain("--reseed");
});

test("a stranger's write before the replica's first append is found as well", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("a.db", primary);
  await fixture.ready();
  await fixture.stop();
  const agent = await fixture.ready();
  await waitFor("every page checked", () => agent.status().databases[0]?.checked);
  const file = fixture.file("a.db");
  expect((await new Process("sqlite3", [file, "CREATE TABLE stranger (x)"]).exited).code).toBe(0);
  primary.connection.exec("INSERT INTO t (body) VALUES (2)");
  await log.ship("a.db", primary);
  expect((await within("a halt", 10_000, failure(agent.done))).code).toBe("STANDBY_WRITTEN");
});

test("a stranger's checkpoint is not taken for a write", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("a.db", primary);
  const agent = await fixture.ready();
  for (let i = 0; i < 10; i += 1) {
    primary.connection.exec("INSERT INTO t (body) VALUES (1)");
    await applied(agent, await log.ship("a.db", primary));
    const mode = ["PASSIVE", "RESTART", "TRUNCATE"][i % 3] ?? "";
    const stranger = new Process("sqlite3", [fixture.file("a.db"), `PRAGMA wal_checkpoint(${mode})`]);
    await stranger.exited;
  }
  expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe("10");
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(fixture.file("a.db")), primary.image)).toBe(0);
});

test("a second replica on the same standby is refused", async () => {
  await fixture.log.ship("a.db", fixture.source("a.db"));
  await fixture.ready();
  const error = await failure(fixture.start());
  expect(error.code).toBe("AGENT_RUNNING");
  const elsewhere = replicaProcess({ log: path.join(fixture.directory, "log"), standby: fixture.standby });
  expect((await elsewhere.exited).code).not.toBe(0);
  expect(elsewhere.errors).toContain("AGENT_RUNNING");
  expect(error.message).toContain(fixture.standby);
});

test("another log is refused, and followed after a reseed", async () => {
  const primary = fixture.source("a.db");
  await fixture.log.ship("a.db", primary);
  await fixture.ready();
  await fixture.stop();
  const other = await PageDiffLog.open(path.join(fixture.directory, "log2"));
  primary.connection.exec("INSERT INTO t (body) VALUES (2)");
  await other.ship("a.db", primary);
  const agent = await fixture.start({ log: other.log });
  const error = await failure(agent.done);
  expect(error.code).toBe("STANDBY_FOREIGN");
  expect(error.hint).toContain("--reseed");
  await fixture.ready({ log: other.log, reseed: true });
  expect(query(fixture.file("a.db"), "SELECT body FROM t")).toBe("2");
  await fixture.stop();
  await other[Symbol.asyncDispose]();
});

test("a database file that Tidemark did not make is not overwritten", async () => {
  await fixture.log.ship("a.db", fixture.source("a.db"));
  fs.mkdirSync(fixture.standby);
  fs.writeFileSync(fixture.file("a.db"), "precious");
  const agent = await fixture.start();
  expect((await failure(agent.done)).code).toBe("STANDBY_FOREIGN");
  expect(fs.readFileSync(fixture.file("a.db"), "utf8")).toBe("precious");
});

test("a log trimmed past the position is a gap; one without a full copy says what to do", async () => {
  const { log } = fixture;
  const primary = fixture.source("a.db");
  await log.ship("a.db", primary);
  await fixture.ready();
  await fixture.stop();
  for (let i = 0; i < 5; i += 1) {
    primary.connection.exec("INSERT INTO t (body) VALUES (1)");
    await log.ship("a.db", primary);
  }
  await log.log.trim(offset(log.writer.head - 2));
  const behind = await fixture.start();
  const gap = await failure(behind.done);
  expect(gap.code).toBe("LOG_GAP");
  expect(gap.hint).toContain("repository:");
  const fresh = await fixture.start({ reseed: true });
  const error = await failure(fresh.done);
  expect(error.code).toBe("LOG_GAP");
  expect(error.message).toContain("no full copy of a.db");
  // The old state is still readable, and a copy that comes later heals it without a word.
  expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe("0");
  await log.copy("a.db", primary);
  await fixture.ready();
  expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe("5");
});

for (const name of ["../a.db", "/etc/a.db", "a/../../b.db", ".tidemark/state.db", "a.db-wal", "a//b.db", "a.db/"]) {
  test(`a database named ${JSON.stringify(name)} in the log is refused`, async () => {
    await fixture.log.ship(name, fixture.source("a.db"));
    const agent = await fixture.start();
    const error = await failure(agent.done);
    expect(error.code).toBe("RECORD_INVALID");
    expect(error.message).toContain(JSON.stringify(name));
  });
}

test("a name that leads through a symbolic link out of the standby is refused", async () => {
  await fixture.log.ship("link/a.db", fixture.source("a.db"));
  fs.mkdirSync(fixture.standby);
  fs.symlinkSync(fixture.directory, fixture.file("link"));
  const agent = await fixture.start();
  expect((await failure(agent.done)).message).toContain("symbolic link");
  expect(fs.existsSync(path.join(fixture.directory, "a.db"))).toBe(false);
});

test("a log of another set is refused", async () => {
  await fixture.log.ship("a.db", fixture.source("a.db"));
  const agent = await fixture.start({ set: "other" });
  expect((await failure(agent.done)).code).toBe("LOG_FOREIGN");
});
