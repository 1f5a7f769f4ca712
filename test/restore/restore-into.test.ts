import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import type { ImagedDatabase } from "../support/database-images.ts";
import { RestoreBench } from "./support/restore-bench.ts";

let bench: RestoreBench;
let source: ImagedDatabase;
let target: string;
beforeEach(async () => {
  bench = await RestoreBench.open();
  source = bench.source();
  await bench.commit(source, "CREATE TABLE t (body); INSERT INTO t VALUES (randomblob(3000))");
  target = bench.newTarget();
});
afterEach(async () => {
  await bench[Symbol.asyncDispose]();
});

function fill(directory: string, files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
    fs.writeFileSync(path.join(directory, name), text);
  }
}

function expectRestored(directory: string): void {
  expect(Buffer.compare(fs.readFileSync(path.join(directory, "app.db")), source.image)).toBe(0);
}

/** Somebody else's process with a file open. */
async function holdOpen(file: string): Promise<ChildProcess> {
  const holder = spawn("sh", ["-c", 'exec 3<"$0"; echo open; read wait', file], { stdio: ["pipe", "pipe", "inherit"] });
  if (!holder.stdout) throw new Error("no output");
  await once(holder.stdout, "data");
  return holder;
}

test("a missing parent is made, and taken away again when the restore fails", async () => {
  const deep = path.join(target, "a", "b");
  await expect(bench.restore({ target: deep, to: "999" })).rejects.toMatchObject({ code: "OFFSET_NOT_FOUND" });
  expect(bench.leftInTargets()).toEqual([]);
  await bench.restore({ target: deep });
  expectRestored(deep);
});

test("an empty directory keeps its permissions; a link to one is followed", async () => {
  fs.mkdirSync(target, { recursive: true });
  fs.chmodSync(target, 0o710);
  const link = `${target}-link`;
  fs.symlinkSync(target, link);
  await bench.restore({ target: link });
  expectRestored(target);
  expect(fs.statSync(target).mode & 0o777).toBe(0o710);
  expect(fs.lstatSync(link).isSymbolicLink()).toBe(true);
});

test("content is refused and untouched without --force", async () => {
  fill(target, { "app.db": "mine", "notes.txt": "mine too" });
  for (const attempt of [bench.restore({ target }), bench.preview({ target })]) {
    await expect(attempt).rejects.toMatchObject({
      code: "TARGET_NOT_EMPTY",
      exitCode: 6,
      message: expect.stringContaining("app.db, notes.txt"),
    });
  }
  expect(fs.readFileSync(path.join(target, "app.db"), "utf8")).toBe("mine");
  expect(fs.readdirSync(path.dirname(target))).toEqual([path.basename(target)]);
});

test("with --force what the restore replaces is gone, the wal of the old database included", async () => {
  fill(target, { "app.db": "old", "app.db-wal": "old", "app.db-shm": "old" });
  const report = await bench.restore({ target, force: true });
  expect(report.kept).toBeUndefined();
  expectRestored(target);
  expect(fs.readdirSync(target)).toEqual(["app.db"]);
  expect(fs.readdirSync(path.dirname(target))).toEqual([path.basename(target)]);
});

test("with --force files that the restore does not bring are kept beside", async () => {
  fill(target, { "app.db": "old", "uploads/a.png": "picture" });
  const first = await bench.restore({ target, force: true });
  expect(first.kept).toBe(`${target}.before-restore`);
  expectRestored(target);
  expect(fs.readFileSync(path.join(`${target}.before-restore`, "uploads/a.png"), "utf8")).toBe("picture");
  fill(target, { "more.txt": "more" });
  expect((await bench.restore({ target, force: true })).kept).toBe(`${target}.before-restore-2`);
});

test("with --force a failed restore leaves the old content", async () => {
  fill(target, { "app.db": "old" });
  await expect(bench.restore({ target, force: true, to: "2" })).rejects.toMatchObject({ code: "OFFSET_NOT_FOUND" });
  const stop = new AbortController();
  const aborted = bench.restore({
    target,
    force: true,
    signal: stop.signal,
    onProgress: ({ phase }) => phase === "verify" && stop.abort(),
  });
  await expect(aborted).rejects.toMatchObject({ code: "INTERRUPTED" });
  expect(fs.readFileSync(path.join(target, "app.db"), "utf8")).toBe("old");
  expect(fs.readdirSync(path.dirname(target))).toEqual([path.basename(target)]);
});

test("--force does not take a directory away from a program that uses it", async () => {
  fill(target, { "app.db": "old" });
  const holder = await holdOpen(path.join(target, "app.db"));
  try {
    await expect(bench.restore({ target, force: true })).rejects.toMatchObject({
      code: "DATABASE_BUSY",
      message: expect.stringContaining(`process ${holder.pid}`),
    });
    expect(fs.readFileSync(path.join(target, "app.db"), "utf8")).toBe("old");
  } finally {
    holder.stdin?.end();
    await once(holder, "exit");
  }
  await bench.restore({ target, force: true });
  expectRestored(target);
});

test("the directory of the log itself cannot be the target", async () => {
  const log = path.join(bench.directory, "log");
  await expect(bench.restore({ target: log, force: true })).rejects.toMatchObject({
    code: "DATABASE_BUSY",
    message: expect.stringContaining(log),
  });
});

test("a standby, or a directory inside one, is refused even with --force", async () => {
  fill(target, { ".tidemark/state.db": "state" });
  for (const directory of [target, path.join(target, "deep", "er")]) {
    await expect(bench.restore({ target: directory, force: true })).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("standby"),
    });
  }
  expect(bench.leftInTargets()).toContain(path.join(path.basename(target), ".tidemark", "state.db"));
});

test("a file as target, or on the way to it, is refused", async () => {
  fill(path.dirname(target), { [path.basename(target)]: "a file" });
  for (const directory of [target, path.join(target, "below")]) {
    await expect(bench.restore({ target: directory })).rejects.toMatchObject({
      code: "USAGE",
      message: `${target} is not a directory`,
    });
  }
});

test("two restores into one target: one of them is told of the other", async () => {
  let second: Promise<unknown> = Promise.resolve();
  const first = bench.restore({
    target,
    onProgress: ({ phase, done }) => {
      if (phase === "check" && done === 0) second = bench.restore({ target }).catch((error: unknown) => error);
    },
  });
  await first;
  expect(await second).toMatchObject({ code: expect.stringMatching(/^(AGENT_RUNNING|TARGET_NOT_EMPTY)$/) });
  expectRestored(target);
  expect(fs.readdirSync(path.dirname(target))).toEqual([path.basename(target)]);
});

test("content that appears while the restore runs is not overwritten", async () => {
  const restoring = bench.restore({
    target,
    onProgress: ({ phase }) => phase === "verify" && fill(target, { "app.db": "new application" }),
  });
  await expect(restoring).rejects.toMatchObject({ code: "TARGET_NOT_EMPTY" });
  expect(fs.readFileSync(path.join(target, "app.db"), "utf8")).toBe("new application");
  expect(fs.readdirSync(path.dirname(target))).toEqual([path.basename(target)]);
});
