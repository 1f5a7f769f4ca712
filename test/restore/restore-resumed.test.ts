import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { afterEach, beforeEach, expect, test } from "vitest";

import type { Offset } from "../../src/event/positions.ts";
import type { CrashPoint } from "../../src/runtime/crash-point.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { Random } from "../support/random.ts";
import { ArchiveBench } from "./support/archive-bench.ts";
import { expectRestored } from "./support/tree-bench.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const HOOK = fileURLToPath(new URL("../support/crash/crash-hook.ts", import.meta.url));
const NAMES = ["a.db", "b.db", "deep/c.db"];

let scene: ArchiveBench;
let target: string;
beforeEach(async () => {
  scene = await ArchiveBench.open();
  target = scene.bench.newTarget();
  fs.mkdirSync(path.dirname(target), { recursive: true });
});
afterEach(async () => {
  await scene[Symbol.asyncDispose]();
});

/** Commits, a base in the middle, commits; all of it archived. */
async function archived(files: string | undefined): Promise<Offset> {
  await using repository = await scene.repository("write");
  for (const name of NAMES) await scene.commit(name, "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
  for (const name of NAMES) await scene.commit(name, "INSERT INTO t (body) VALUES (randomblob(600000))");
  if (files !== undefined) await scene.change(files);
  const base = scene.recorded.at(-1)?.offset;
  if (base === undefined) throw new Error("nothing was recorded");
  for (const name of NAMES) await scene.commit(name, "UPDATE t SET body = randomblob(300000)");
  const last = await scene.commit("a.db", "INSERT INTO t (body) VALUES (randomblob(9))");
  await scene.archive(repository);
  await scene.base(repository, base, new Random("a base"));
  return last;
}

/** The command line, killed when it passes a point for the nth time. Returns whether it was. */
async function restoreUntil(point: CrashPoint | undefined, nth = 1): Promise<boolean> {
  const orders = path.join(scene.bench.directory, "crash");
  fs.writeFileSync(orders, point === undefined ? "" : `${nth} ${point}`);
  const args = [MAIN, "restore", "--repository", scene.directory(), "--target", target, "--check", "quick", "--json"];
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "ignore", "pipe"],
    cwd: scene.bench.directory,
    env: { ...process.env, NODE_OPTIONS: `--import=${HOOK}`, TIDEMARK_TEST_CRASH: orders },
  });
  let said = "";
  child.stderr.on("data", (data: Buffer) => (said += data.toString()));
  const [code, signal] = await once(child, "close");
  // Nothing else was taken instead of what it went on with.
  expect(said).toBe("");
  if (code !== 0 && signal === null) throw new Error(`the restore ended with ${code}`);
  return signal === "SIGKILL";
}

function expectAllOfIt(): void {
  const recorded = scene.recorded.at(-1);
  for (const [name, image] of recorded?.images ?? [])
    expect(Buffer.compare(fs.readFileSync(path.join(target, name)), image), name).toBe(0);
  if (recorded?.picture) expectRestored(target, recorded.picture);
  expect(fs.readdirSync(path.dirname(target))).toEqual([path.basename(target)]);
}

test("what a killed restore fetched is not fetched again: pages", { timeout: 60_000 }, async () => {
  await archived(undefined);
  expect(await restoreUntil("restore: all fetched")).toBe(true);
  expect(fs.existsSync(target)).toBe(false);
  fs.rmSync(path.join(scene.directory(), "packs"), { recursive: true });
  expect(await restoreUntil(undefined)).toBe(false);
  expectAllOfIt();
});

test("killed between blocks, which may be ready in any order, a restore goes on", { timeout: 120_000 }, async () => {
  await using repository = await scene.repository("write");
  await scene.commit("a.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
  const blobs = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 68)";
  const base = await scene.commit("a.db", `${blobs} INSERT INTO t SELECT i, randomblob(1000000) FROM n`);
  await scene.base(repository, base, new Random("a base"));
  expect(await restoreUntil("restore: block fetched")).toBe(true);
  expect(await restoreUntil(undefined)).toBe(false);
  expectAllOfIt();
});

test("killed at each point, and at the next one again, a restore ends well", { timeout: 120_000 }, async () => {
  await archived("for f in $(seq 520); do echo $f > f$f; done; head -c 400000 /dev/urandom > large; ln large twin");
  // One after the other in the same directory, which each takes over.
  expect(await restoreUntil("restore: block fetched")).toBe(true);
  expect(await restoreUntil("restore: block fetched", 2)).toBe(true);
  for (const point of pointsOf("restore").filter((one) => one !== "restore: block fetched")) {
    expect(await restoreUntil(point), point).toBe(true);
    expect(fs.existsSync(target)).toBe(false);
  }
  expect(await restoreUntil(undefined)).toBe(false);
  expectAllOfIt();
});

test("another point, or other wishes, begin anew; nothing is left", { timeout: 60_000 }, async () => {
  const last = await archived(undefined);
  expect(await restoreUntil("restore: all fetched")).toBe(true);
  await using repository = await scene.repository("read");
  await scene.restore(last - 1, { repositories: [repository], directory: target });
  expect(
    Buffer.compare(
      fs.readFileSync(path.join(target, "a.db")),
      scene.at(last - 1)?.images.get("a.db") ?? Buffer.alloc(0),
    ),
  ).toBe(0);
  expect(fs.readdirSync(path.dirname(target))).toEqual([path.basename(target)]);
});
