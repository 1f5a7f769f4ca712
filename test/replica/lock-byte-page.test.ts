import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { pagesPerRecord } from "../../src/event/codec.ts";
import type { PageImage, SqliteCommit } from "../../src/event/kinds.ts";
import type { Offset } from "../../src/event/positions.ts";
import { lockBytePage } from "../../src/format/database-header.ts";
import { PageIndex } from "../../src/sqlite/page-index.ts";
import { ImagedDatabase } from "../support/database-images.ts";
import { applied, query, ReplicaFixture } from "../support/replica-fixture.ts";
import { waitFor } from "../support/wait.ts";

const PAGE = 65_536;

let fixture: ReplicaFixture;
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
});
afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

/** Pages of a database file that is not open here. */
function* filePages(file: string): Generator<PageImage> {
  const fd = fs.openSync(file, "r");
  const count = fs.fstatSync(fd).size / PAGE;
  try {
    for (let pageNumber = 1; pageNumber <= count; pageNumber += 1) {
      if (pageNumber === lockBytePage(PAGE)) continue;
      const data = new Uint8Array(PAGE);
      fs.readSync(fd, data, 0, PAGE, (pageNumber - 1) * PAGE);
      yield { pageNumber, data };
    }
  } finally {
    fs.closeSync(fd);
  }
}

/** Ships pages part by part, so that no more than a few are in memory. */
async function ship(
  index: PageIndex,
  change: { pages: Iterable<PageImage>; cause: SqliteCommit["cause"]; sizePages: number; transaction: number },
): Promise<Offset> {
  const { cause, sizePages, transaction } = change;
  const before = cause === "copy" ? 0n : index.checksum;
  const common = { database: "large.db", transaction, pageSize: PAGE };
  let parts = 0;
  let pages: PageImage[] = [];
  const flush = async (): Promise<void> => {
    await fixture.log.append([{ kind: "sqlite.part", ...common, sequence: parts, pages }]);
    parts += 1;
    pages = [];
  };
  for (const page of change.pages) {
    if (index.set(page.pageNumber, page.data)) pages.push(page);
    if (pages.length === pagesPerRecord(PAGE)) await flush();
  }
  if (pages.length > 0) await flush();
  index.resize(sizePages);
  const wal = { salt1: 0, salt2: 0, frame: 0, checksum1: 0, checksum2: 0 };
  const commit = { parts, cause, commits: 0, sizePages, pages: [], before, after: index.checksum, wal };
  return fixture.log.append([{ kind: "sqlite.commit", ...common, ...commit }]);
}

test("a database that grows over 1 GiB leaves the lock-byte page alone", async () => {
  const file = path.join(fixture.directory, "large.db");
  const primary = new ImagedDatabase(file, PAGE);
  primary.connection.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
  const half = Math.floor(((lockBytePage(PAGE) - 20) * (PAGE - 4)) / 2);
  for (let i = 0; i < 2; i += 1) primary.connection.exec(`INSERT INTO t (body) VALUES (zeroblob(${half}))`);
  primary.close();
  const index = new PageIndex(PAGE, fixture.log.writer.checksumSeed);
  const before = fs.statSync(file).size / PAGE;
  expect(before).toBeLessThan(lockBytePage(PAGE));
  await ship(index, { pages: filePages(file), cause: "copy", sizePages: before, transaction: 1 });
  const agent = await fixture.ready();
  const grown = new ImagedDatabase(file, PAGE);
  for (let i = 0; i < 60; i += 1) grown.connection.exec("INSERT INTO t (body) VALUES (randomblob(60000))");
  grown.close();
  const after = fs.statSync(file).size / PAGE;
  expect(after).toBeGreaterThan(lockBytePage(PAGE));
  await applied(
    agent,
    await ship(index, { pages: filePages(file), cause: "commit", sizePages: after, transaction: 2 }),
  );
  await waitFor("the check of all pages", () => agent.status().databases[0]?.checked, { timeoutMs: 60_000 });
  expect(query(fixture.file("large.db"), "SELECT count(*) FROM t")).toBe("62");
  expect(query(fixture.file("large.db"), "PRAGMA integrity_check")).toBe("ok");
  await fixture.stop();
  expect(query(fixture.file("large.db"), "PRAGMA integrity_check")).toBe("ok");
}, 120_000);
