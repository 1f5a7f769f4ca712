import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import type { CrashPoint } from "../../src/runtime/crash-point.ts";
import { BankDatabase } from "../support/bank-database.ts";
import { Process } from "../support/processes.ts";
import { query, ReplicaFixture } from "../support/replica-fixture.ts";
import { waitFor } from "../support/wait.ts";

const READER = path.join(import.meta.dirname, "../support/standby-reader.py");
const PROGRAM = path.join(import.meta.dirname, "../support/replica-program.ts");

let fixture: ReplicaFixture;
let bank: BankDatabase;
const processes: Process[] = [];
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
  bank = new BankDatabase(path.join(fixture.directory, "bank.db"), 1024);
});
afterEach(async () => {
  for (const each of processes.splice(0)) await each.kill();
  bank.close();
  await fixture[Symbol.asyncDispose]();
});

test("many events waiting at the start become one commit: a reader sees the old state, then the newest", async () => {
  await fixture.log.ship("bank.db", bank);
  await fixture.ready();
  await fixture.stop();
  const file = fixture.file("bank.db");
  const reader = new Process("python3", [READER, file]);
  processes.push(reader);
  await waitFor("a first read", () => reader.output.includes("reading"));
  // More than the log hands out in one batch.
  bank.connection.exec("CREATE TABLE ballast (body BLOB); INSERT INTO ballast VALUES (1)");
  for (let i = 0; i < 300; i += 1) {
    bank.connection.exec("UPDATE ballast SET body = randomblob(200000)");
    bank.transact();
    await fixture.log.ship("bank.db", bank);
  }
  await fixture.ready();
  await waitFor("the newest state", () => query(file, "SELECT n FROM counter_one") === "300");
  const verdict = JSON.parse((await reader.stop()).trim().split("\n").at(-1) ?? "null");
  expect(verdict.broken).toEqual([]);
  expect(verdict.versions).toBeLessThanOrEqual(2);
  await fixture.stop();
  expect(Buffer.compare(fs.readFileSync(file), bank.image)).toBe(0);
});

for (const point of ["append: between frames", "standby: new file made"] satisfies CrashPoint[]) {
  test(`killed at ${point} of a large append, the next start continues`, async () => {
    if (point === "append: between frames") {
      await fixture.log.ship("bank.db", bank);
      await fixture.ready();
      await fixture.stop();
    }
    bank.connection.exec(
      "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 30) INSERT INTO filler (body) SELECT randomblob(100000) FROM c",
    );
    await fixture.log.ship("bank.db", bank);
    for (let round = 1; round <= 2; round += 1) {
      const victim = new Process(process.execPath, [
        PROGRAM,
        path.join(fixture.directory, "log"),
        fixture.standby,
        point,
        `${round}`,
      ]);
      processes.push(victim);
      if (point === "standby: new file made" && round === 2)
        await waitFor("ready", () => victim.output.includes("ready"));
      else expect((await victim.exited).signal).toBe("SIGKILL");
      await victim.stop();
    }
    await fixture.ready();
    expect(query(fixture.file("bank.db"), "PRAGMA integrity_check")).toBe("ok");
    await fixture.stop();
    expect(Buffer.compare(fs.readFileSync(fixture.file("bank.db")), bank.image)).toBe(0);
  });
}

test("a replica that starts before anything was captured waits for it", async () => {
  const agent = await fixture.start();
  await waitFor(
    "the first position",
    async () => agent.status().state === "following" || agent.status().state === "starting",
  );
  await fixture.log.ship("bank.db", bank);
  await agent.ready;
  await waitFor("the copy", () => fs.existsSync(fixture.file("bank.db")));
});
