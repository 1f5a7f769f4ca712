import fs from "node:fs";

import Database from "better-sqlite3";
import { afterAll, beforeAll, expect, test, vi } from "vitest";

import { CliScene } from "../support/cli-scene.ts";

// Every step is a process of its own; many at once are slow on a busy machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

let scene: CliScene;

beforeAll(async () => {
  scene = new CliScene();
  scene.quiet();
  scene.database();
  const running = scene.start(["run", "--db", "app.db", "--standby", "standby"]);
  await running.waitReady();
  expect((await scene.run(["mark", "begin", "--standby", "standby"])).code).toBe(0);
  await running.stop();
});
afterAll(() => scene[Symbol.asyncDispose]());

const restore = (...args: string[]): string[] => ["restore", "--standby", "standby", ...args];

test("the last line of restore --json tells what was restored and proved", async () => {
  const report = await scene.ask(restore("--target", "json", "--to", "latest"));
  expect(report).toMatchObject({
    ok: true,
    offset: 4,
    at: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as string,
    databases: [
      {
        name: "app.db",
        pages: 2,
        checksum: expect.stringMatching(/^[0-9a-f]{16}$/) as string,
        integrity: "ok",
        foreignKeys: "ok",
      },
    ],
    files: { count: 0, bytes: 0 },
    durationMs: expect.any(Number) as number,
  });
  const database = new Database(scene.path("json/app.db"), { readonly: true });
  expect(database.prepare("SELECT text FROM note").pluck().all()).toEqual(["first"]);
  database.close();
});

test("for people it is a few lines", async () => {
  const { code, stdout, stderr } = await scene.run(restore("--target", "text", "--to", "mark:begin"));
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toMatch(/^restored .*\/text to offset 4, .*\n {2}app\.db .* integrity ok {2}foreign keys ok\n$/);
});

test("a dry run tells what it would do and writes nothing", async () => {
  expect(await scene.ask(restore("--target", "dry", "--dry-run"))).toMatchObject({ ok: true, dryRun: true, offset: 4 });
  const { stdout } = await scene.run(restore("--target", "dry", "--dry-run"));
  expect(stdout).toContain("would restore");
  expect(fs.existsSync(scene.path("dry"))).toBe(false);
});

test.each([
  ["2026-01-31T17:45:00", 2, "TIME_INVALID", "has no zone"],
  ["2026-13-31T17:45:00Z", 2, "TIME_INVALID", "2026-13-31"],
  ["yesterday", 2, "USAGE", '"yesterday"'],
  ["2001-01-01T00:00:00Z", 1, "TIME_OUT_OF_RANGE", "before the first point that can be restored"],
  ["2999-01-01T00:00:00Z", 1, "TIME_OUT_OF_RANGE", "in the future"],
  ["99", 1, "OFFSET_NOT_FOUND", "offset 99"],
  ["mark:begni", 1, "MARK_NOT_FOUND", '"begni"; did you mean "begin"?'],
])("--to %s is refused, and nothing written", async (to, exit, code, message) => {
  const refused = await scene.refused(restore("--target", "never", "--to", to));
  expect(refused).toMatchObject({ exit, code });
  expect(refused.message).toContain(message);
  expect(refused.hint).not.toBe("");
  expect(fs.existsSync(scene.path("never"))).toBe(false);
});

test("a target that is not empty is refused with 6, and left alone", async () => {
  scene.write("full/precious.txt", "mine");
  const refused = await scene.refused(restore("--target", "full"));
  expect(refused).toMatchObject({ exit: 6, code: "TARGET_NOT_EMPTY" });
  expect(refused.message).toContain(scene.path("full"));
  expect(refused.hint).toContain("--force");
  expect(fs.readdirSync(scene.path("full"))).toEqual(["precious.txt"]);
});

test("a database that the log does not hold", async () => {
  const refused = await scene.refused(restore("--target", "never", "--database", "other.db"));
  expect(refused.message).toContain("other.db");
  expect(fs.existsSync(scene.path("never"))).toBe(false);
});

test("without an agent, status tells what the log tells", async () => {
  expect(await scene.ask(["status", "--standby", "standby"])).toMatchObject({
    set: "app",
    epoch: 1,
    log: { first: 1, last: 4, bytes: expect.any(Number) as number },
    capture: null,
    standby: null,
    repository: { base: null, archived: null, bytes: null },
    rpo: { actualMs: expect.any(Number) as number, objectiveMs: 3_600_000, ok: true },
    alerts: [],
    agents: [],
  });
  const { stdout } = await scene.run(["status", "--standby", "standby"]);
  expect(stdout).toContain("no agent runs on this host");
});

test("log --json is one line an event; ranges include both ends", async () => {
  const lines = async (...args: string[]): Promise<Record<string, unknown>[]> => {
    const { stdout } = await scene.run(["log", "--json", "--standby", "standby", ...args]);
    return stdout
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  };
  const all = await lines();
  expect(all.map(({ offset, kind, name }) => [offset, kind, name])).toEqual([
    [1, "genesis", "app"],
    [2, "epoch", expect.any(String)],
    [3, "sqlite.commit", "app.db"],
    [4, "mark", "begin"],
  ]);
  expect(all[2]).toEqual({
    offset: 3,
    at: expect.stringMatching(/Z$/) as string,
    kind: "sqlite.commit",
    name: "app.db",
    epoch: 1,
    bytes: expect.any(Number) as number,
  });
  expect((await lines("--from", "2", "--to", "3")).map(({ offset }) => offset)).toEqual([2, 3]);
  expect((await lines("--from", String(all[2]?.["at"]))).map(({ offset }) => offset)).toContain(3);
  expect((await lines("--from", "mark:begin")).map(({ offset }) => offset)).toEqual([4]);
  expect(await lines("--to", "2001-01-01T00:00:00Z")).toEqual([]);
});

test("log --from an offset that is not there", async () => {
  expect(await scene.refused(["log", "--standby", "standby", "--from", "99"])).toMatchObject({
    exit: 1,
    code: "OFFSET_NOT_FOUND",
  });
});

test("marks lists them", async () => {
  expect(await scene.ask(["marks", "--standby", "standby"])).toEqual({
    marks: [{ name: "begin", offset: 4, at: expect.stringMatching(/Z$/) as string }],
  });
});
