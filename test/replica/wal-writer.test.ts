import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { buildDatabase } from "../../src/replica/sqlite/new-database.ts";
import { PageSpool } from "../../src/replica/sqlite/page-spool.ts";
import { WalWriter } from "../../src/replica/sqlite/wal-writer.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { ImagedDatabase } from "../support/database-images.ts";

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-wal-writer-"));
});
afterEach(() => {
  fs.rmSync(directory, { recursive: true, force: true });
});

function spoolOf(source: ImagedDatabase): PageSpool {
  const spool = new PageSpool(source.pageSize, directory);
  for (const { pageNumber, data } of source.changes()) spool.put(pageNumber, data);
  return spool;
}

async function openCopy(source: ImagedDatabase): Promise<WalWriter> {
  const standby = path.join(directory, "standby.db");
  await buildDatabase(standby, { pages: spoolOf(source), pageSize: source.pageSize, sizePages: source.sizePages });
  return new WalWriter({ path: standby, pageSize: source.pageSize, clock: systemClock });
}

/** What another process reads, through the sqlite3 program. */
function query(file: string, sql: string): string {
  return execFileSync("sqlite3", ["-readonly", file, sql], { encoding: "utf8" }).trim();
}

for (const pageSize of [512, 1024, 4096, 65_536]) {
  test(`commits appended to the WAL are what another process reads (page size ${pageSize})`, async () => {
    const source = new ImagedDatabase(path.join(directory, "source.db"), pageSize);
    source.connection.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
    const writer = await openCopy(source);
    const insert = source.connection.prepare("INSERT INTO t (body) VALUES (randomblob(700))");
    for (let round = 1; round <= 60; round += 1) {
      source.connection.transaction(() => {
        for (let i = 0; i < round; i += 1) insert.run();
      })();
      if (round % 20 === 0) source.connection.exec("DELETE FROM t WHERE id % 2 = 0; VACUUM");
      await writer.append(spoolOf(source), source.sizePages);
      if (round % 25 === 0) expect(writer.checkpoint()).toBe(true);
    }
    const count = String(source.connection.prepare("SELECT count(*) FROM t").pluck().get());
    expect(query(writer.path, "SELECT count(*) FROM t")).toBe(count);
    expect(query(writer.path, "PRAGMA integrity_check")).toBe("ok");
    writer.close();
    expect(Buffer.compare(fs.readFileSync(path.join(directory, "standby.db")), source.image)).toBe(0);
    source.close();
  });
}

test("the wal-index stays right over the block boundaries at 4,062 and 8,158 frames", async () => {
  const source = new ImagedDatabase(path.join(directory, "source.db"), 512);
  source.connection.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
  const writer = await openCopy(source);
  const insert = source.connection.prepare("INSERT INTO t (body) VALUES (randomblob(400))");
  const update = source.connection.prepare("UPDATE t SET body = randomblob(400) WHERE id % 97 = ?");
  for (let round = 0; writer.walBytes < 9500 * 536; round += 1) {
    source.connection.transaction(() => {
      for (let i = 0; i < 40; i += 1) insert.run();
      update.run(round % 97);
    })();
    await writer.append(spoolOf(source), source.sizePages);
    if (round % 10 === 0) expect(query(writer.path, "PRAGMA integrity_check")).toBe("ok");
  }
  const reader = query(writer.path, "SELECT count(*), sum(length(body)), hex(max(body)) FROM t");
  source.close();
  expect(query(path.join(directory, "source.db"), "SELECT count(*), sum(length(body)), hex(max(body)) FROM t")).toBe(
    reader,
  );
  writer.close();
});
