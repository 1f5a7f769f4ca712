import { createHash } from "node:crypto";
import fs from "node:fs";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { committedImage } from "../support/compare.ts";
import { Deployment } from "../support/deployment.ts";
import { waitFor } from "../support/wait.ts";

const GIB = 1024 ** 3;
const PAGE_SIZE = 65_536;

/** Megabytes of zeros, which cost the log next to nothing, in rows that begin with a number. */
const fill = (from: number, to: number): string =>
  `WITH RECURSIVE n(i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM n WHERE i < ${to}) INSERT INTO t SELECT i, zeroblob(1048576) FROM n`;

// The page that holds the byte at 1 GiB is for locks: it has no frame, no content and no hash.
test(
  "a database grows past 1 GiB while it is followed, and is read again when the agent was away",
  { timeout: 240_000 },
  async () => {
    await using deployment = new Deployment();
    await using app = new SqlSession(deployment.database);
    await app.run("PRAGMA page_size=65536");
    await app.run("PRAGMA journal_mode=WAL");
    await app.run("PRAGMA synchronous=OFF; CREATE TABLE t (value INTEGER PRIMARY KEY, body BLOB)");
    await app.run(fill(1, 1000));
    await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    expect(fs.statSync(deployment.database).size).toBeLessThan(GIB);
    const first = await deployment.start("run");
    await app.run(fill(1001, 1030));
    await app.run("UPDATE t SET body = randomblob(1000000) WHERE value IN (3, 1010, 1030)");
    await deployment.sync();
    expect(Number(await app.value("PRAGMA page_count")) * PAGE_SIZE).toBeGreaterThan(GIB);
    expect(digestOf(deployment.standbyDatabase)).toBe(digestOf(deployment.database));

    // The whole file is read again, to ship the difference.
    await first.stop();
    await app.run("DELETE FROM t WHERE value BETWEEN 1005 AND 1010");
    await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    await deployment.start("run");
    await deployment.sync();
    expect(digestOf(deployment.standbyDatabase)).toBe(digestOf(deployment.database));
    expect((await deployment.commits()).at(-1)?.cause).toBe("repair");

    // The replica reads all of its copy too, to compare it with its index, and another program to see that it is sound.
    await waitFor("the check of all pages of the standby", async () => {
      const { standby } = await deployment.status();
      return standby?.databases[0]?.checked;
    });
    await using reader = new SqlSession(deployment.standbyDatabase);
    expect(await reader.value("PRAGMA quick_check")).toBe("ok");
  },
);

/** Of everything but the lock-byte page. One image at a time is in memory. */
function digestOf(database: string): string {
  const image = committedImage(database);
  return createHash("sha1")
    .update(image.subarray(0, GIB))
    .update(image.subarray(GIB + PAGE_SIZE))
    .digest("hex");
}
