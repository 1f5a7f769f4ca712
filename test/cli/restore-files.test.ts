import fs from "node:fs";

import { afterAll, beforeAll, expect, test, vi } from "vitest";

import { CliScene } from "../support/cli-scene.ts";

// Every step is a process of its own; many at once are slow on a busy machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

let scene: CliScene;

/** What an agent captured of a database and a tree, with a mark before the last change. */
beforeAll(async () => {
  scene = new CliScene();
  scene.quiet();
  scene.database();
  scene.write("uploads/2026/a.pdf", "first");
  scene.write("uploads/note.txt", "note");
  const running = scene.start(["run", "--db", "app.db", "--files", "uploads", "--standby", "standby"]);
  await running.waitReady();
  expect((await scene.run(["mark", "before", "--standby", "standby"])).code).toBe(0);
  scene.write("uploads/2026/a.pdf", "second");
  fs.rmSync(scene.path("uploads/note.txt"));
  expect((await scene.run(["sync", "--applied", "--standby", "standby"])).code).toBe(0);
  expect(fs.readFileSync(scene.path("standby/uploads/2026/a.pdf"), "utf8")).toBe("second");
  await running.stop();
});
afterAll(() => scene[Symbol.asyncDispose]());

const restore = (...args: string[]): string[] => ["restore", "--standby", "standby", ...args];

function restored(target: string): string[] {
  return fs.readdirSync(scene.path(target), { recursive: true, encoding: "utf8" }).toSorted();
}

test("databases and files come back together, as they were", async () => {
  const before = await scene.ask(restore("--target", "before", "--to", "mark:before"));
  expect(before).toMatchObject({
    ok: true,
    databases: [{ name: "app.db" }],
    files: { count: 2, bytes: 9 },
    consistent: true,
  });
  expect(restored("before")).toEqual(["app.db", "uploads", "uploads/2026", "uploads/2026/a.pdf", "uploads/note.txt"]);
  expect(fs.readFileSync(scene.path("before/uploads/2026/a.pdf"), "utf8")).toBe("first");
  const now = await scene.ask(restore("--target", "now", "--consistent"));
  expect(now).toMatchObject({
    files: { count: 1, bytes: 6 },
    consistent: true,
    nearestConsistent: { offset: now["offset"] },
  });
});

test("--path alone brings no database back, --database alone no files, both bring both", async () => {
  expect(await scene.ask(restore("--target", "path", "--path", "**/*.pdf"))).toMatchObject({ databases: [] });
  expect(restored("path")).toEqual(["uploads", "uploads/2026", "uploads/2026/a.pdf"]);
  expect(await scene.ask(restore("--target", "db", "--database", "app.db"))).toMatchObject({
    files: { count: 0, bytes: 0 },
  });
  expect(restored("db")).toEqual(["app.db"]);
  await scene.ask(restore("--target", "both", "--database", "app.db", "--path", "uploads/2026"));
  expect(restored("both")).toEqual(["app.db", "uploads", "uploads/2026", "uploads/2026/a.pdf"]);
  const refused = await scene.refused(restore("--target", "never", "--path", "upload/**"));
  expect(refused).toMatchObject({ exit: 2, code: "USAGE" });
  expect(refused.hint).toContain("uploads");
  expect(fs.existsSync(scene.path("never"))).toBe(false);
});

test("for people it is a line a tree; log names what happened to a file", async () => {
  const { stdout } = await scene.run(restore("--target", "text"));
  expect(stdout).toMatch(/\n {2}uploads {2}6 B {2}1 file, 2 directories {2}each SHA-256 as in the log\n/);
  const { stdout: preview } = await scene.run(restore("--target", "dry", "--dry-run"));
  expect(preview).toMatch(/\n {2}uploads {2}6 B {2}1 file, 2 directories\n/);
  const { stdout: log } = await scene.run(["log", "--standby", "standby"]);
  expect(log).toMatch(/file\.remove +[\d.]+ B {2}uploads\/note\.txt\n/);
});
