import fs from "node:fs";

import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";

import { flipBits } from "../support/bit-rot.ts";
import { applied, failure, query, ReplicaFixture } from "../support/replica-fixture.ts";
import { checked, PAGE, requireEqual, Said, SCRUBBING, standbyOf, status } from "../support/standby-scene.ts";
import { waitFor } from "../support/wait.ts";

let fixture: ReplicaFixture;
let said: Said;
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
  said = new Said();
});
afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

for (const [what, bytes] of Object.entries({
  "the magic that makes it SQLite's": [0, 7],
  "page size": [16, 17],
  "file format versions": [18, 19],
  "what else stands in the header": [20, 28, 31, 44, 56, 96],
  "everything within reach": Array.from({ length: 1000 }, (_, i) => i),
})) {
  test(`page 1, ${what}: SQLite may refuse the file, and it is repaired all the same`, async () => {
    const primary = await standbyOf(fixture);
    flipBits(fixture.file("a.db"), bytes);
    primary.connection.exec("INSERT INTO t (body) VALUES (1)");
    const at = await fixture.log.ship("a.db", primary);
    const agent = await fixture.ready({ logger: said.logger });
    await checked(agent);
    await applied(agent, at);
    expect(agent.status().verified).toBe(true);
    expect(query(fixture.file("a.db"), "PRAGMA integrity_check; SELECT count(*) FROM t")).toBe("ok\n2");
    await requireEqual(fixture, primary);
  });
}

test("the magic is flipped while it runs", async () => {
  const primary = await standbyOf(fixture);
  const agent = await fixture.ready({ logger: said.logger, config: SCRUBBING });
  await checked(agent);
  flipBits(fixture.file("a.db"), [3]);
  await waitFor("the repair", () => status(agent)?.repairs === 1);
  primary.connection.exec("INSERT INTO t (body) VALUES (1)");
  await applied(agent, await fixture.log.ship("a.db", primary));
  expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe("2");
  await requireEqual(fixture, primary);
});

for (const [what, damage] of Object.entries({
  "the file is gone": (file: string) => fs.rmSync(file),
  "it was emptied": (file: string) => fs.truncateSync(file),
  "taken out of WAL mode": (file: string) => {
    const database = new Database(file);
    database.pragma("journal_mode=DELETE");
    database.close();
  },
})) {
  test(`${what}: it is built anew from what is right in it and from the log`, async () => {
    const primary = await standbyOf(fixture);
    damage(fixture.file("a.db"));
    const agent = await fixture.ready({ logger: said.logger });
    await checked(agent);
    expect(said.text).toContain(what);
    await requireEqual(fixture, primary);
  });
}

/** Runs SQL in the standby's own state, which nobody has open. */
function inState(sql: string): void {
  const state = new Database(fixture.file(".tidemark/state.db"));
  state.exec(sql);
  state.close();
}

for (const [what, sql] of Object.entries({
  "a hash": "UPDATE page_index_block SET hashes = CAST(x'0102030405060708' || substr(hashes, 9) AS BLOB)",
  "the checksum": "UPDATE page_index SET checksum = '00000000deadbeef'",
  "the size": "UPDATE page_index SET size_pages = size_pages - 1",
  "a block": "DELETE FROM page_index_block",
})) {
  test(`a damaged page index (${what}) is made anew from the file, proved by the log`, async () => {
    const primary = await standbyOf(fixture);
    inState(sql);
    primary.connection.exec("INSERT INTO t (body) VALUES (1)");
    const at = await fixture.log.ship("a.db", primary);
    const agent = await fixture.ready({ logger: said.logger });
    await checked(agent);
    await applied(agent, at);
    expect(said.text).toContain("the page index is damaged; it is made anew");
    expect(status(agent)).toMatchObject({ repairs: 1, scrub: { differing: 0 } });
    await requireEqual(fixture, primary);
  });
}

test("an index that claims to be newer than it is: the next event does not lead on from it, and it is made anew", async () => {
  const primary = await standbyOf(fixture);
  for (const body of [1, 2]) {
    primary.connection.exec(`INSERT INTO t (body) VALUES (${body})`);
    await fixture.log.ship("a.db", primary);
  }
  inState("UPDATE page_index SET offset = offset + 1");
  const agent = await fixture.ready({ logger: said.logger });
  await checked(agent);
  expect(said.text).toContain("CHECKSUM_MISMATCH");
  expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe("3");
  await requireEqual(fixture, primary);
});

test("page index and file both damaged: halts with the hint, and a reseed brings it back", async () => {
  const primary = await standbyOf(fixture);
  inState("UPDATE page_index SET checksum = '00000000deadbeef'");
  flipBits(fixture.file("a.db"), [20 * PAGE]);
  const error = await failure((await fixture.start()).done);
  expect(error.code).toBe("INTEGRITY");
  expect(error.message).toContain("is at no commit that the log or a repository holds");
  expect(error.hint).toContain("--reseed");
  await checked(await fixture.ready({ reseed: true }));
  await requireEqual(fixture, primary);
});

for (const [what, position] of [
  ["its first page", 3],
  ["a page within", 5 * PAGE + 1],
] as const) {
  test(`the state of the standby is damaged, ${what}: said, and a reseed brings it back`, async () => {
    const primary = await standbyOf(fixture);
    flipBits(fixture.file(".tidemark/state.db"), [position, position + 4, position + 8]);
    const error = await failure(fixture.start().then(async (agent) => agent.done));
    expect(error.code).toMatch(/INTEGRITY|STANDBY_DIVERGED/);
    expect(error.hint).toContain("--reseed");
    await checked(await fixture.ready({ reseed: true }));
    await requireEqual(fixture, primary);
  });
}
