import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { DEFAULT_BANK } from "../support/apps/bank.ts";
import { createBank, startReader, startWriter } from "../support/apps/bank-programs.ts";
import { reportOf } from "../support/apps/program.ts";
import type { ReaderReport } from "../support/apps/reader.ts";
import { flipBits } from "../support/bit-rot.ts";
import { Deployment } from "../support/deployment.ts";
import { waitFor } from "../support/wait.ts";

/** Where pages that nobody reads or writes lie in the file. */
function ballastIn(file: string): number[] {
  const bytes = readFileSync(file);
  const found: number[] = [];
  for (let page = 0; page < bytes.length; page += 4096) {
    if (bytes.subarray(page + 1000, page + 1100).every((byte) => byte === 0x21)) found.push(page + 1050);
  }
  return found;
}

test("bits rot in a standby that is written and read: repaired within a scrub, no reader notices, apply goes on", async () => {
  await using deployment = new Deployment({ config: "scrub: 500ms\nscrubRate: 64MiB" });
  const { database, standbyDatabase } = deployment;
  await createBank(database, DEFAULT_BANK);
  const ballast =
    "CREATE TABLE ballast (b); INSERT INTO ballast VALUES (CAST(replace(hex(zeroblob(300000)), '00', '!!') AS BLOB))";
  execFileSync("sqlite3", [database, ballast]);
  const agent = await deployment.start("run");
  const journal = path.join(deployment.directory, "journal");
  const options = { bank: DEFAULT_BANK, journal, writer: 0, rate: 200, burst: 2 };
  await using writer = await startWriter({ ...options, database });
  await using reader = await startReader({
    database: standbyDatabase,
    bank: DEFAULT_BANK,
    everyMs: 10,
    reopenEvery: 5,
  });
  const places = ballastIn(standbyDatabase);
  expect(places.length).toBeGreaterThan(50);
  for (let round = 1; round <= 2; round += 1) {
    // What was repaired stands in the WAL now: other pages each time.
    const rotten = places.filter((_, i) => i % 2 === round - 1);
    flipBits(standbyDatabase, rotten);
    await waitFor("a repair", () => agent.output.stderr.split("repaired from the log").length === round + 1);
  }
  expect((await deployment.status()).standby).toMatchObject({ verified: true, databases: [{ repairs: 2 }] });
  await writer.end("SIGTERM");
  const { violations, states } = await reportOf<ReaderReport>(reader);
  expect(violations).toEqual([]);
  expect(states).toBeGreaterThan(10);
  expect(await deployment.difference()).toBeUndefined();
  expect(agent.output.stderr).toMatch(/page[s]? [\d, ]+ and \d+ more are not what the log says/);
  // What the primary holds was right all along.
  expect(await deployment.repairs()).toBe(0);
});
