import { execFileSync } from "node:child_process";
import path from "node:path";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";

const WRITER = path.join(import.meta.dirname, "../support/apps/page-writer.ts");
const PAGE_SIZE = 4096;

// The file format lets a commit make a database larger without frames of the new pages; SQLite's own library was never seen
// to do so. They hold what a reader finds: the last frame of the page, the file's bytes, or zeros beyond its end.

test("a commit grows the database by pages that are in no frame of it", async () => {
  await using deployment = new Deployment();
  const { database } = deployment;
  const app = new SqlSession(database);
  await app.run(`PRAGMA page_size=${PAGE_SIZE}`);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (value INTEGER, body BLOB)");
  const commit = (...numbers: readonly number[]): void => {
    execFileSync(process.execPath, [WRITER, database, ...[PAGE_SIZE, ...numbers].map(String)]);
  };
  await deployment.start("run");
  const differences: unknown[] = [];
  // Zeros beyond the end of the file; some of them in the file; what stood there before the database shrank.
  for (const [sizePages = 0, ...written] of [[7, 7], [12, 9, 12], [12], [4], [11], [14, 14]]) {
    commit(sizePages, ...written);
    differences.push(await deployment.difference());
    if (sizePages === 12) await app.run("PRAGMA wal_checkpoint(PASSIVE)");
  }
  expect(differences).toEqual(Array.from({ length: 6 }, () => undefined));
  expect(await deployment.repairs()).toBe(0);
  expect(await app.value("PRAGMA page_count")).toBe(14);
  await app[Symbol.asyncDispose]();
});
