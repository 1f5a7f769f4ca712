import fs from "node:fs";

import { afterEach, beforeEach, expect, test } from "vitest";

import { offset } from "../../src/event/positions.ts";
import type { ReadOptions } from "../../src/log/change-log.ts";
import { flipBits } from "../support/bit-rot.ts";
import { Process } from "../support/processes.ts";
import { applied, failure, query, ReplicaFixture } from "../support/replica-fixture.ts";
import { checked, PAGE, requireEqual, Said, SCRUBBING, standbyOf, status } from "../support/standby-scene.ts";
import { waitFor, within } from "../support/wait.ts";

let fixture: ReplicaFixture;
let said: Said;
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
  said = new Said();
});
afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

test("bits flipped while the replica was down: found after the start, named, repaired from the log", async () => {
  const primary = await standbyOf(fixture);
  flipBits(fixture.file("a.db"), [10 * PAGE + 99, 40 * PAGE]);
  const agent = await fixture.ready({ logger: said.logger });
  await checked(agent);
  expect(said.text).toContain("pages 11, 41 are not what the log says");
  expect(said.text).toContain("repaired from the log");
  expect(agent.status().verified).toBe(true);
  expect(status(agent)).toMatchObject({ repairs: 1, scrub: { differing: 2, pages: primary.sizePages } });
  primary.connection.exec("INSERT INTO t (body) VALUES (1)");
  await applied(agent, await fixture.log.ship("a.db", primary));
  await requireEqual(fixture, primary);
});

test("page 1 and a hundred others flipped while it runs: readers stay, everything is repaired within a scrub", async () => {
  const primary = fixture.source("a.db");
  primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(2000000))");
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready({ logger: said.logger, config: SCRUBBING });
  await checked(agent);
  const positions = Array.from({ length: 100 }, (_, i) => (2 + 3 * i) * PAGE + i);
  // Byte 60 holds the user version.
  flipBits(fixture.file("a.db"), [60, ...positions]);
  await waitFor("the repair", () => status(agent)?.repairs === 1);
  expect(said.text).toMatch(/pages 1, 3, 6, .* and 81 more are not what the log says/);
  for (let i = 0; i < 20; i += 1) {
    primary.connection.exec("INSERT INTO t (body) VALUES (zeroblob(9000))");
    await applied(agent, await fixture.log.ship("a.db", primary));
    expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe(String(2 + i));
  }
  expect(query(fixture.file("a.db"), "PRAGMA integrity_check")).toBe("ok");
  expect(agent.status()).toMatchObject({ verified: true, state: "following" });
  const { at } = status(agent)?.scrub ?? {};
  await waitFor("a clean scrub after it", () => status(agent)?.scrub.at !== at && status(agent)?.scrub.differing === 0);
  await requireEqual(fixture, primary);
});

test("what the log no longer holds cannot be repaired: the replica halts, says so, and a reseed brings it back", async () => {
  const primary = await standbyOf(fixture);
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
  expect(error.message).toContain(
    "page 31 is not what the log says, and neither the log nor a repository holds an image of page 31",
  );
  expect(error.hint).toContain("--reseed");
  expect(agent.status()).toMatchObject({ state: "halted", verified: false });
  await fixture.log.copy("a.db", primary);
  await checked(await fixture.ready({ reseed: true }));
  await requireEqual(fixture, primary);
});

test("commits that the disk lost, as after a power cut, come from the log again", async () => {
  const primary = await standbyOf(fixture);
  const before = fs.readFileSync(fixture.file("a.db"));
  const agent = await fixture.ready();
  primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(30000)); CREATE INDEX i ON t (id)");
  await applied(agent, await fixture.log.ship("a.db", primary));
  await fixture.stop();
  fs.writeFileSync(fixture.file("a.db"), before);
  const again = await fixture.ready({ logger: said.logger });
  await checked(again);
  expect(said.text).toContain(`it has ${before.length / PAGE} pages, the log says ${primary.sizePages}`);
  expect(status(again)).toMatchObject({ repairs: 1 });
  expect(query(fixture.file("a.db"), "PRAGMA integrity_check")).toBe("ok");
  await requireEqual(fixture, primary);
});

test("what a stranger wrote while the replica was down is found and taken back", async () => {
  const primary = await standbyOf(fixture);
  const sql = "INSERT INTO t (body) VALUES (randomblob(50000)); CREATE TABLE stranger (x)";
  expect((await new Process("sqlite3", [fixture.file("a.db"), sql]).exited).code).toBe(0);
  const agent = await fixture.ready({ logger: said.logger });
  await checked(agent);
  expect(said.text).toContain("not what the log says");
  await requireEqual(fixture, primary);
});

test("a stranger's write halts a running replica; started again it takes it back", async () => {
  const primary = await standbyOf(fixture);
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
  await requireEqual(fixture, primary);
});

test("stopped in the middle of a repair: that is no failure, and the next start repairs", async () => {
  const primary = await standbyOf(fixture);
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
  const agent = await fixture.ready({ log, logger: said.logger });
  await within("the end", 10_000, agent.done);
  expect(agent.status().state).toBe("stopped");
  expect(said.text).not.toContain("repaired");
  await checked(await fixture.ready({ logger: said.logger }));
  expect(said.text).toContain("repaired");
  await requireEqual(fixture, primary);
});
