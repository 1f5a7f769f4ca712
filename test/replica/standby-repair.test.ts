import fs from "node:fs";

import { type Logger, pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";

import { offset } from "../../src/event/positions.ts";
import type { ReadOptions } from "../../src/log/change-log.ts";
import type { ReplicaAgent } from "../../src/replica/replica-agent.ts";
import { flipBits } from "../support/bit-rot.ts";
import type { ImagedDatabase } from "../support/database-images.ts";
import { Process } from "../support/processes.ts";
import { REPLICA_CONFIG } from "../support/replica-config.ts";
import { applied, failure, query, ReplicaFixture } from "../support/replica-fixture.ts";
import { waitFor, within } from "../support/wait.ts";

const PAGE = 4096;
const SCRUBBING = { ...REPLICA_CONFIG, scrub: { everyMs: 100, bytesPerSecond: 1024 ** 3 } };
let fixture: ReplicaFixture;
let said: string[];
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
  said = [];
});
afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

const logger = (): Logger => pino({ level: "info" }, { write: (line) => void said.push(line) });

/** A standby with one database of 50 pages and more, all of it in its file. */
async function standby(): Promise<ImagedDatabase> {
  const primary = fixture.source("a.db");
  primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(200000))");
  await fixture.log.ship("a.db", primary);
  await checked(await fixture.ready());
  await fixture.stop();
  return primary;
}

async function checked(agent: ReplicaAgent): Promise<void> {
  await waitFor("the comparison of all pages", () => agent.status().databases[0]?.checked, { timeoutMs: 10_000 });
}

const status = (agent: ReplicaAgent) => agent.status().databases[0];

async function isEqual(primary: ImagedDatabase): Promise<void> {
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(fixture.file("a.db")), primary.image)).toBe(0);
}

test("bits flipped while the replica was down: found after the start, named, repaired from the log", async () => {
  const primary = await standby();
  flipBits(fixture.file("a.db"), [10 * PAGE + 99, 40 * PAGE]);
  const agent = await fixture.ready({ logger: logger() });
  await checked(agent);
  expect(said.join("")).toContain("pages 11, 41 are not what the log says");
  expect(said.join("")).toContain("repaired from the log");
  expect(agent.status().verified).toBe(true);
  expect(status(agent)).toMatchObject({ repairs: 1, scrub: { differing: 2, pages: primary.sizePages } });
  primary.connection.exec("INSERT INTO t (body) VALUES (1)");
  await applied(agent, await fixture.log.ship("a.db", primary));
  await isEqual(primary);
});

test("page 1 and a hundred others flipped while it runs: readers stay, everything is repaired within a scrub", async () => {
  const primary = fixture.source("a.db");
  primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(2000000))");
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready({ logger: logger(), config: SCRUBBING });
  await checked(agent);
  const positions = Array.from({ length: 100 }, (_, i) => (2 + 3 * i) * PAGE + i);
  // Byte 60 holds the user version.
  flipBits(fixture.file("a.db"), [60, ...positions]);
  await waitFor("the repair", () => status(agent)?.repairs === 1);
  expect(said.join("")).toMatch(/pages 1, 3, 6, .* and 81 more are not what the log says/);
  for (let i = 0; i < 20; i += 1) {
    primary.connection.exec("INSERT INTO t (body) VALUES (zeroblob(9000))");
    await applied(agent, await fixture.log.ship("a.db", primary));
    expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe(String(2 + i));
  }
  expect(query(fixture.file("a.db"), "PRAGMA integrity_check")).toBe("ok");
  expect(agent.status()).toMatchObject({ verified: true, state: "following" });
  const { at } = status(agent)?.scrub ?? {};
  await waitFor("a clean scrub after it", () => status(agent)?.scrub.at !== at && status(agent)?.scrub.differing === 0);
  await isEqual(primary);
});

test("what the log no longer holds cannot be repaired: the replica halts, says so, and a reseed brings it back", async () => {
  const primary = await standby();
  for (let i = 0; i < 3; i += 1) {
    primary.connection.exec("INSERT INTO t (body) VALUES (1)");
    await fixture.log.ship("a.db", primary);
  }
  await checked(await fixture.ready());
  await fixture.stop();
  await fixture.log.log.trim(offset(fixture.log.writer.head - 2));
  flipBits(fixture.file("a.db"), [30 * PAGE + 7]);
  const agent = await fixture.start();
  const error = await within("a halt", 10_000, failure(agent.done));
  expect(error.code).toBe("STANDBY_DIVERGED");
  expect(error.message).toContain("page 31 is not what the log says, and the log holds no image of page 31");
  expect(error.hint).toContain("--reseed");
  expect(agent.status()).toMatchObject({ state: "halted", verified: false });
  await fixture.log.copy("a.db", primary);
  await checked(await fixture.ready({ reseed: true }));
  await isEqual(primary);
});

test("commits that the disk lost, as after a power cut, come from the log again", async () => {
  const primary = await standby();
  const before = fs.readFileSync(fixture.file("a.db"));
  const agent = await fixture.ready();
  primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(30000)); CREATE INDEX i ON t (id)");
  await applied(agent, await fixture.log.ship("a.db", primary));
  await fixture.stop();
  fs.writeFileSync(fixture.file("a.db"), before);
  const again = await fixture.ready({ logger: logger() });
  await checked(again);
  expect(said.join("")).toContain(`it has ${before.length / PAGE} pages, the log says ${primary.sizePages}`);
  expect(status(again)).toMatchObject({ repairs: 1 });
  expect(query(fixture.file("a.db"), "PRAGMA integrity_check")).toBe("ok");
  await isEqual(primary);
});

test("what a stranger wrote while the replica was down is found and taken back", async () => {
  const primary = await standby();
  const sql = "INSERT INTO t (body) VALUES (randomblob(50000)); CREATE TABLE stranger (x)";
  expect((await new Process("sqlite3", [fixture.file("a.db"), sql]).exited).code).toBe(0);
  const agent = await fixture.ready({ logger: logger() });
  await checked(agent);
  expect(said.join("")).toContain("not what the log says");
  await isEqual(primary);
});

test("a stranger's write halts a running replica; started again it takes it back", async () => {
  const primary = await standby();
  const agent = await fixture.ready({ config: SCRUBBING });
  await checked(agent);
  const sql = "INSERT INTO t (body) VALUES ('stranger')";
  expect((await new Process("sqlite3", [fixture.file("a.db"), sql]).exited).code).toBe(0);
  // Found by the scrub, with nothing to apply.
  expect((await within("a halt", 10_000, failure(agent.done))).code).toBe("STANDBY_WRITTEN");
  expect(agent.status().verified).toBe(false);
  const again = await fixture.ready();
  await checked(again);
  expect(status(again)?.repairs).toBe(1);
  expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe("1");
  await isEqual(primary);
});

test("stopped in the middle of a repair: that is no failure, and the next start repairs", async () => {
  const primary = await standby();
  flipBits(fixture.file("a.db"), [30 * PAGE + 7]);
  let reads = 0;
  const log = new Proxy(fixture.log.log, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      if (key !== "read" || typeof value !== "function")
        return typeof value === "function" ? value.bind(target) : value;
      return (after: number, options: ReadOptions) => {
        // The first read follows the log, the second looks for the page.
        reads += 1;
        if (reads === 2) void fixture.stop();
        return target.read(offset(after), options);
      };
    },
  });
  const agent = await fixture.ready({ log, logger: logger() });
  await within("the end", 10_000, agent.done);
  expect(agent.status().state).toBe("stopped");
  expect(said.join("")).not.toContain("repaired");
  await checked(await fixture.ready({ logger: logger() }));
  expect(said.join("")).toContain("repaired");
  await isEqual(primary);
});
