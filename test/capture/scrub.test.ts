import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { DEFAULT_BANK } from "../support/apps/bank.ts";
import { createBank, startWriter } from "../support/apps/bank-programs.ts";
import { reportOf } from "../support/apps/program.ts";
import type { ScrubStatus } from "../../src/sqlite/page-comparison.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import type { WriterReport } from "../support/apps/writer.ts";
import { flipBits } from "../support/bit-rot.ts";
import { Deployment } from "../support/deployment.ts";
import { Random } from "../support/random.ts";
import { waitFor } from "../support/wait.ts";

const PAGE = 4096;

async function scrubOf(deployment: Deployment): Promise<ScrubStatus> {
  const { capture } = await deployment.status();
  return capture?.databases[0]?.scrub ?? { at: undefined, pages: 0, differing: 0, running: undefined };
}

/** A database of a few hundred pages, all of it in its file. */
async function application(database: string): Promise<SqlSession> {
  const app = new SqlSession(database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
  for (let row = 0; row < 100; row += 1) await app.run("INSERT INTO t (body) VALUES (randomblob(10000))");
  await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
  return app;
}

test.concurrent("bits that rot in the primary's file: found by a scrub, named, shipped; the former pages are in the log", async () => {
  await using deployment = new Deployment({ config: "scrub: 2s" });
  await using app = await application(deployment.database);
  const agent = await deployment.start("run");
  expect(await deployment.difference()).toBeUndefined();
  const intact = readFileSync(deployment.database);
  // A scrub that is at work would pass some of them and find the others.
  const { at } = await scrubOf(deployment);
  await waitFor("the end of a scrub", async () => (await scrubOf(deployment)).at !== at);
  // Byte 60 of page 1 is the user version; the others are far within blobs.
  flipBits(deployment.database, [60, 150 * PAGE + 2000, 151 * PAGE + 3000]);
  await waitFor("the repair", async () => (await deployment.repairs()) > 0);
  expect(await deployment.difference()).toBeUndefined();
  expect(readFileSync(deployment.database).equals(intact)).toBe(false);
  expect(agent.output.stderr).toContain("pages 1, 151, 152 of ");
  const [, before = ""] = /restore --to (\d+) --database app\.db/.exec(agent.output.stderr) ?? [];
  const restored = await deployment.restore(before);
  expect(readFileSync(restored.database).equals(intact)).toBe(true);
  const report = await deployment.status();
  expect(report.capture).toMatchObject({ databases: [{ repairs: 1 }] });
  await waitFor("a clean scrub after it", async () => {
    const { pages, differing } = await scrubOf(deployment);
    return pages === intact.length / PAGE && differing === 0;
  });
  await app.run("UPDATE t SET body = x'' WHERE id < 3");
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(1);
});

test.concurrent("rot while the agent was down is found by the first scrub that is due", async () => {
  await using deployment = new Deployment({ config: "scrub: 1s" });
  await using app = await application(deployment.database);
  const first = await deployment.start("run");
  await waitFor("a scrub", async () => (await scrubOf(deployment)).at);
  await app.run("INSERT INTO t (body) VALUES (1)");
  // Its WAL then proves to the next start that no commit passed, so that the pages are not compared.
  await first.stop();
  flipBits(deployment.database, [100 * PAGE + 9]);
  const agent = await deployment.start("run");
  await waitFor("the repair", async () => (await deployment.repairs()) > 0);
  expect(agent.output.stderr).toContain("page 101 of ");
  expect(await deployment.difference()).toBeUndefined();
  // When the last one was is remembered, so that an agent that is started every day is scrubbed as well.
  const before = await scrubOf(deployment);
  await agent.stop();
  writeFileSync(deployment.configFile, readFileSync(deployment.configFile, "utf8").replace("scrub: 1s", "scrub: 1h"));
  await deployment.start("run");
  expect((await scrubOf(deployment)).at ?? "").toMatch(/^\d{4}-/);
  expect(((await scrubOf(deployment)).at ?? "") >= (before.at ?? "")).toBe(true);
});

test.concurrent("writers that checkpoint after every commit, TRUNCATE and VACUUM: no scrub sees anything but what the log holds", async () => {
  await using deployment = new Deployment({ config: "scrub: 50ms\nscrubRate: 1GiB\nwal: { seal: 256KiB }" });
  const random = new Random("scrub under writers");
  const { database } = deployment;
  await createBank(database, DEFAULT_BANK);
  const agent = await deployment.start("run");
  const journals = [0, 1, 2].map((writer) => path.join(deployment.directory, `${writer}.journal`));
  const writers = await Promise.all(
    journals.map(async (journal, writer) =>
      startWriter({
        database,
        journal,
        writer,
        bank: DEFAULT_BANK,
        rate: 2000,
        burst: 10,
        autocheckpoint: [1, 7, 50][writer] ?? 1000,
        truncateEvery: random.integer(20, 200),
      }),
    ),
  );
  await using app = new SqlSession(database);
  const scrubs = (): number => agent.output.stderr.split("scrub done: every page is what the log holds").length - 1;
  const committed = (): number =>
    journals.reduce((sum, file) => sum + readFileSync(file, "utf8").split("\n").length, 0);
  const deadline = performance.now() + 40_000;
  while ((scrubs() < 10 || committed() < 2000) && performance.now() < deadline) {
    const size = random.integer(1, 60) * 10_000;
    const grow = `CREATE TABLE IF NOT EXISTS x (b); INSERT INTO x VALUES (randomblob(${size}))`;
    // VACUUM may meet a writer's lock for too long.
    await app.run(random.pick(["VACUUM", grow, "DELETE FROM x"])).catch(() => undefined);
  }
  const reports = [];
  for (const writer of writers) reports.push(await reportOf<WriterReport>(writer));
  const commits = reports.reduce((sum, report) => sum + report.commits, 0);
  process.stdout.write(`${commits} commits, ${scrubs()} scrubs\n`);
  expect(commits).toBeGreaterThan(1900);
  expect(scrubs()).toBeGreaterThanOrEqual(10);
  expect(await scrubOf(deployment)).toMatchObject({ differing: 0, at: expect.any(String) });
  expect(await deployment.difference()).toBeUndefined();
  // A gap that the commit count proves (WALs that restarted twice) is another matter, and repaired.
  expect(agent.output.stderr).not.toContain("not what the log holds");
});

test.concurrent("killed in the middle of a scrub: the next start begins it again and finds what there is", async () => {
  // A scrub takes seconds: the kill comes before its end on a busy machine, too.
  await using deployment = new Deployment({ config: "scrub: 500ms\nscrubRate: 256KiB" });
  await using app = await application(deployment.database);
  const first = await deployment.start("run");
  // Its WAL proves to the next start that no commit passed, so that only a scrub can find it.
  await app.run("INSERT INTO t (body) VALUES (1)");
  await deployment.sync({ applied: false });
  flipBits(deployment.database, [200 * PAGE + 5]);
  await waitFor("half a scrub", async () => ((await scrubOf(deployment)).running?.done ?? 0) > 30);
  await first.kill9();
  expect(await deployment.repairs()).toBe(0);
  const agent = await deployment.start("run");
  await waitFor("the repair", async () => (await deployment.repairs()) > 0);
  expect(agent.output.stderr).toContain("page 201 of ");
  expect(await deployment.difference()).toBeUndefined();
});
