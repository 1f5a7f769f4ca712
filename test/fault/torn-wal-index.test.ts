import fs from "node:fs";

import { expect, test } from "vitest";

import { decodeWalIndexHeader, encodeWalIndexHeader } from "../../src/format/wal-index.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";

const HEADER_COPY_BYTES = 48;

/** Leaves the wal-index as a writer does that died between the two copies of the header: the second is newer. */
function tearHeader(database: string): void {
  const fd = fs.openSync(`${database}-shm`, "r+");
  const bytes = new Uint8Array(2 * HEADER_COPY_BYTES);
  fs.readSync(fd, bytes, 0, bytes.length, 0);
  const header = decodeWalIndexHeader(bytes);
  if (!header) throw new Error("the wal-index has no valid header to tear");
  const newer = encodeWalIndexHeader({ ...header, changeCounter: header.changeCounter + 1 });
  fs.writeSync(fd, newer, 0, HEADER_COPY_BYTES, HEADER_COPY_BYTES);
  fs.closeSync(fd);
}

test("a writer died between the two copies of the wal-index header: it is rebuilt, and nothing is missed", async () => {
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
