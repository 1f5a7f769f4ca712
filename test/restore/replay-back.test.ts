import fs from "node:fs";
import path from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import { type Offset, offset } from "../../src/event/positions.ts";
import { Random } from "../support/random.ts";
import { FsStore } from "../../src/repository/fs-store.ts";
import { ArchiveBench } from "./support/archive-bench.ts";

const random = new Random("a life in segments");
const BASE_AT = 3;
/** Large enough to be logged in several parts. */
const LARGE = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
  INSERT INTO t (body) SELECT randomblob(60000) FROM n`;

let scene: ArchiveBench;
/** Of each commit, in order. */
const commits: Offset[] = [];
beforeAll(async () => {
  scene = await ArchiveBench.open();
  const run = async (sql: string): Promise<void> => void commits.push(await scene.commit("app.db", sql));
  await run("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
  const steps = [
    LARGE,
    "UPDATE t SET body = randomblob(50000) WHERE id % 7 = 1",
    "DELETE FROM t WHERE id > 5",
    "VACUUM",
    "INSERT INTO t (body) VALUES (zeroblob(300000))",
  ] as const;
  for (let n = 0; n < 8; n += 1) await run(n < 5 ? (steps[n] ?? steps[0]) : random.pick(steps));
  await run(steps[0]);
  await scene.commit("other.db", "CREATE TABLE o (x)");
}, 60_000);
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
});

async function expectRestored(name: string, to: Offset, withLog: boolean): Promise<void> {
  await using repository = await scene.repository("read", new FsStore(scene.directory(name)));
  const { directory } = await scene.restore(to, { repositories: [repository], withLog });
  for (const [file, image] of scene.at(to)?.images ?? [])
    expect(Buffer.compare(fs.readFileSync(path.join(directory, file)), image), `${name}: ${file} at ${to}`).toBe(0);
  fs.rmSync(directory, { recursive: true });
}

async function archived(name: string, through: number): Promise<void> {
  await using repository = await scene.repository("write", new FsStore(scene.directory(name)));
  // As two archivers leave them, which began at different times: segments overlap.
  for (const after of name === "whole" ? [0, 4] : [0])
    await scene.archive(repository, { after, through, perSegment: 3 });
  await scene.base(repository, commits[BASE_AT] ?? offset(1), new Random("a base"));
}

test("shrinking, growing, parts: every commit comes back from the segments", { timeout: 60_000 }, async () => {
  await archived("whole", Infinity);
  for (const to of commits.slice(BASE_AT)) await expectRestored("whole", to, false);
  expect(scene.damaged).toEqual([]);
});

test("segments end between the parts of a commit, and the log goes on", { timeout: 60_000 }, async () => {
  const last = commits.at(-1) ?? offset(1);
  await archived("cut", last - 1);
  await expectRestored("cut", last, true);
  await expectRestored("cut", offset(last + 1), true);
});

test("a segment is damaged that only the log has, too: the restore begins again and reads in order", async () => {
  await archived("spoilt", Infinity);
  const segments = fs.readdirSync(path.join(scene.directory("spoilt"), "segments")).toSorted();
  const file = path.join(scene.directory("spoilt"), "segments", segments.at(-3) ?? "");
  const data = fs.readFileSync(file);
  data[data.length - 20] = (data[data.length - 20] ?? 0) ^ 1;
  fs.writeFileSync(file, data);
  const last = commits.at(-1) ?? offset(1);
  await expectRestored("spoilt", last, true);
  expect(scene.damaged).toEqual([expect.stringContaining(path.basename(file))]);
  await expect(expectRestored("spoilt", last, false)).rejects.toMatchObject({ code: "OBJECT_CORRUPT" });
});

test("while parts of one database wait for their commit in the log, another one is as its segments end", async () => {
  await using alone = await ArchiveBench.open();
  const { bench } = alone;
  const [large, small] = [bench.source("large.db"), bench.source("small.db")];
  await bench.commit(large, "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)", { name: "large.db" });
  await bench.commit(small, "CREATE TABLE t (x)", { name: "small.db" });
  large.connection.exec(LARGE);
  const change = { pages: large.changes(), cause: "commit", database: large } as const;
  const bodies = bench.log.commitBodies("large.db", change);
  await bench.log.append(bodies.slice(0, -1));
  const archivedTo = await bench.commit(small, "INSERT INTO t VALUES (1)", { name: "small.db" });
  await bench.commit(small, "INSERT INTO t VALUES (2)", { name: "small.db" });
  const to = await bench.log.append(bodies.slice(-1));
  await using writing = await alone.repository("write");
  await alone.archive(writing, { through: archivedTo, perSegment: 3 });
  await using repository = await alone.repository("read");
  const { directory } = await alone.restore(to, { repositories: [repository], withLog: true });
  for (const [name, { image }] of Object.entries({ "large.db": large, "small.db": small }))
    expect(Buffer.compare(fs.readFileSync(path.join(directory, name)), image), name).toBe(0);
});
