import { expect, test } from "vitest";

import { flipBits } from "../support/bit-rot.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { writeHeader } from "../support/wal-index-copies.ts";
import { waitFor } from "../support/wait.ts";

/** Leaves the wal-index as a writer does that died between the two copies of the header: the second is newer. */
const tearHeader = (database: string): void =>
  writeHeader(database, (header) => ({ ...header, changeCounter: header.changeCounter + 1 }), "second");

test.concurrent("a writer died between the two copies of the wal-index header: it is rebuilt, and nothing is missed", async () => {
  await using deployment = new Deployment();
  await using app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value INTEGER, body BLOB)");
  await deployment.start("run");
  const differences: unknown[] = [];
  for (let round = 0; round < 8; round += 1) {
    await app.run(`INSERT INTO t VALUES (${round}, randomblob(5000))`);
    // With the frames in the WAL only, and with all of them in the database file.
    if (round % 2 === 1) differences.push(await deployment.difference());
    tearHeader(deployment.database);
    await app.run(`INSERT INTO t VALUES (${round}, randomblob(5000)); UPDATE t SET value = value + 1`);
  }
  expect(differences).toEqual([undefined, undefined, undefined, undefined]);
  expect(await deployment.difference()).toBeUndefined();
  expect(await app.value("SELECT count(*) FROM t")).toBe(16);
});

test.concurrent("commits are counted that left no trace in the WAL: a gap, and the difference is shipped", async () => {
  await using deployment = new Deployment();
  await using app = new SqlSession(deployment.database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value INTEGER, body BLOB); INSERT INTO t VALUES (1, zeroblob(90000))");
  const agent = await deployment.start("run");
  await deployment.sync({ applied: false });
  expect(await app.value("PRAGMA wal_checkpoint(PASSIVE)")).toBe(0);
  // As three commits do that were checkpointed and overwritten while nobody held a pin: the file and the count are left.
  flipBits(deployment.database, [10 * 4096 + 2000]);
  writeHeader(deployment.database, (header) => ({ ...header, changeCounter: header.changeCounter + 3 }), "both");
  await waitFor("the gap", () => agent.output.stderr.includes("the wal-index counts 3 commits, the WAL shows 0"));
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(1);
});
