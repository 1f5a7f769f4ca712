import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";

import type { EventBody, SqliteCommit } from "../../src/event/kinds.ts";
import type { Offset } from "../../src/event/positions.ts";
import { LogHistory } from "../../src/restore/log-history.ts";
import type { ImagedDatabase } from "../support/database-images.ts";
import { RestoreBench } from "./support/restore-bench.ts";

let bench: RestoreBench;
let source: ImagedDatabase;
beforeEach(async () => {
  bench = await RestoreBench.open();
  source = bench.source();
});
afterEach(async () => {
  await bench[Symbol.asyncDispose]();
});

/** One row in `t` for each second that is given, committed at that second. */
async function commitAt(...seconds: number[]): Promise<Offset[]> {
  const offsets: Offset[] = [];
  for (const second of seconds) {
    bench.clock.nowMs = Date.parse(bench.at(second));
    offsets.push(await bench.commit(source, `CREATE TABLE IF NOT EXISTS t (s); INSERT INTO t VALUES (${second})`));
  }
  return offsets;
}

async function secondsAt(to: string): Promise<number[]> {
  const target = bench.newTarget();
  await bench.restore({ to, target });
  const database = new Database(path.join(target, "app.db"));
  try {
    return database.prepare<[], number>("SELECT s FROM t ORDER BY rowid").pluck().all();
  } finally {
    database.close();
  }
}

test("times between, at and after events; equal times", async () => {
  await commitAt(10, 20, 20, 20, 30);
  bench.clock.nowMs = Date.parse(bench.at(100));
  expect(await secondsAt(bench.at(10))).toEqual([10]);
  expect(await secondsAt(bench.at(19.999))).toEqual([10]);
  expect(await secondsAt(bench.at(20))).toEqual([10, 20, 20, 20]);
  expect(await secondsAt(bench.at(25))).toEqual([10, 20, 20, 20]);
  expect(await secondsAt(bench.at(99))).toEqual([10, 20, 20, 20, 30]);
});

test("a clock that steps back does not take events back", async () => {
  await commitAt(10, 30, 20, 40);
  bench.clock.nowMs = Date.parse(bench.at(100));
  expect(await secondsAt(bench.at(29))).toEqual([10]);
  expect(await secondsAt(bench.at(30))).toEqual([10, 30, 20]);
});

test("the report names the event restored to and the commit before it", async () => {
  const [first, second] = await commitAt(10, 20);
  bench.clock.nowMs = Date.parse(bench.at(50));
  const beat = await bench.log.append([{ kind: "heartbeat", writer: "w", host: "h" }]);
  const latest = await bench.restore();
  expect(latest).toMatchObject({ offset: beat, at: bench.at(50), databases: [{ offset: second, at: bench.at(20) }] });
  const earlier = await bench.restore({ to: bench.at(15) });
  expect(earlier).toMatchObject({ offset: first, at: bench.at(10) });
});

test("a time before the log names its first, one before the first copy the first that can be restored", async () => {
  const [first] = await commitAt(10);
  await expect(bench.restore({ to: bench.at(-1) })).rejects.toMatchObject({
    code: "TIME_OUT_OF_RANGE",
    message: expect.stringContaining(bench.at(0)),
  });
  await expect(bench.restore({ to: bench.at(5) })).rejects.toMatchObject({
    code: "TIME_OUT_OF_RANGE",
    message: expect.stringContaining(bench.at(10)),
    hint: expect.stringContaining(String(first)),
  });
  await expect(bench.restore({ to: "2" })).rejects.toMatchObject({
    code: "OFFSET_NOT_FOUND",
    message: expect.stringContaining(bench.at(10)),
  });
  expect(bench.leftInTargets()).toEqual([]);
});

test("a time in the future names the head; one that has passed since the last event is the head", async () => {
  const [head] = await commitAt(10);
  bench.clock.nowMs = Date.parse(bench.at(60));
  expect(await bench.restore({ to: bench.at(60) })).toMatchObject({ offset: head });
  await expect(bench.restore({ to: bench.at(61) })).rejects.toMatchObject({
    code: "TIME_OUT_OF_RANGE",
    message: expect.stringContaining(`offset ${head}`),
  });
});

test("events newer than this machine's clock can still be named by time", async () => {
  const [, head] = await commitAt(10, 20);
  bench.clock.nowMs = Date.parse(bench.at(0));
  expect(await bench.restore({ to: bench.at(20) })).toMatchObject({ offset: head });
});

test("an offset that is not there names the bounds", async () => {
  const [head] = await commitAt(10);
  for (const to of ["0", "4", "1746353700000"]) {
    await expect(bench.restore({ to })).rejects.toMatchObject({
      code: "OFFSET_NOT_FOUND",
      message: expect.stringContaining(`1 to ${head}`),
    });
  }
});

test("in a trimmed log what is left can be restored, from a copy that is left", async () => {
  const [, second] = await commitAt(10, 20, 30);
  const copy = await bench.log.copy("app.db", source);
  await commitAt(40);
  await bench.log.log.trim(second ?? copy);
  expect(await secondsAt("latest")).toEqual([10, 20, 30, 40]);
  await expect(bench.restore({ to: String(second) })).rejects.toMatchObject({ code: "OFFSET_NOT_FOUND" });
  await expect(bench.restore({ to: String(copy - 1) })).rejects.toMatchObject({
    code: "OFFSET_NOT_FOUND",
    message: expect.stringContaining("no full copy"),
  });
  await expect(bench.restore({ to: bench.at(15) })).rejects.toMatchObject({
    code: "TIME_OUT_OF_RANGE",
    message: expect.stringContaining(bench.at(30)),
  });
});

test("marks are listed and restored to; an unknown one names the nearest", async () => {
  await expect(bench.restore({ to: "mark:before" })).rejects.toMatchObject({
    code: "MARK_NOT_FOUND",
    hint: expect.stringContaining("tidemark mark"),
  });
  await commitAt(10);
  const mark = await bench.log.append([{ kind: "mark", name: "before-migration" }]);
  await commitAt(20);
  expect(await secondsAt("mark:before-migration")).toEqual([10]);
  expect(await new LogHistory(bench.log.log).marks(new AbortController().signal)).toEqual([
    { name: "before-migration", offset: mark, timeMs: Date.parse(bench.at(10)) },
  ]);
  await expect(bench.restore({ to: "mark:before-migratoin" })).rejects.toMatchObject({
    code: "MARK_NOT_FOUND",
    message: expect.stringContaining("before-migration"),
  });
});

/** What is pending as a repair of a gap since `second`. */
function repair(second: number): EventBody[] {
  const changes = { pages: source.changes(), cause: "repair" as const, database: source };
  const bodies = bench.log.commitBodies("app.db", changes);
  return bodies.map((body) =>
    body.kind === "sqlite.commit"
      ? ({ ...body, gapSinceMs: Date.parse(bench.at(second)) } satisfies SqliteCommit)
      : body,
  );
}

test("a restore to a time inside a gap says so and names the exact points around it", async () => {
  const [, before] = await commitAt(10, 20);
  source.connection.exec("INSERT INTO t VALUES (35)");
  bench.clock.nowMs = Date.parse(bench.at(40));
  const other = bench.source("other.db");
  await bench.commit(other, "CREATE TABLE o (x)", { name: "other.db" });
  await bench.log.append([{ kind: "heartbeat", writer: "w", host: "h" }]);
  bench.clock.nowMs = Date.parse(bench.at(50));
  const repaired = await bench.log.append(repair(30));
  await commitAt(60);
  const gap = {
    database: "app.db",
    since: bench.at(30),
    until: bench.at(50),
    exactBefore: before,
    exactFrom: repaired,
  };
  expect(await bench.preview({ to: bench.at(35) })).toMatchObject({ dryRun: true, gaps: [gap] });
  expect(await bench.restore({ to: bench.at(45) })).toMatchObject({ gaps: [gap] });
  expect(await bench.restore({ to: String(repaired - 1) })).toMatchObject({ gaps: [gap] });
  for (const exact of [bench.at(25), bench.at(30), String(before), bench.at(50), "latest"]) {
    expect(await bench.preview({ to: exact }), exact).toMatchObject({ gaps: [] });
  }
  expect(await bench.preview({ to: bench.at(45), databases: ["other.db"] })).toMatchObject({ gaps: [] });
  expect(await secondsAt(bench.at(50))).toEqual([10, 20, 35]);
});

test("a dry run prints the plan and writes nothing", async () => {
  const [first, second] = await commitAt(10, 20);
  const target = bench.newTarget();
  const preview = await bench.preview({ target, to: bench.at(15) });
  expect(preview).toMatchObject({ ok: true, offset: first, at: bench.at(10), target, fromOffset: 1 });
  expect(preview.databases).toMatchObject([{ name: "app.db", pages: source.sizePages, bytes: source.image.length }]);
  expect(preview.bytesNeeded).toBeGreaterThan(source.image.length);
  expect(preview.bytesFree).toBeGreaterThan(0);
  expect(fs.existsSync(path.dirname(target))).toBe(false);
  const copy = await bench.log.copy("app.db", source);
  expect(await bench.preview({ target })).toMatchObject({ offset: copy, fromOffset: (second ?? 0) + 1 });
});
