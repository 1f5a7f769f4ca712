import { spawn, type ChildProcess } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import fs from "node:fs";

import { expect, test } from "vitest";

import { nameOf, parentPath, type TreePath } from "../../../src/event/tree-path.ts";
import type { Dirty } from "../../../src/capture/files/tree-seam.ts";
import { type Clock, systemClock } from "../../../src/runtime/clock.ts";
import { until } from "../../support/log-records.ts";
import { TreeScene } from "../../support/tree-scene.ts";

class Writer implements AsyncDisposable {
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess) {
    this.#process = process;
  }

  static async start(file: string, how: string, bytes: number): Promise<Writer> {
    const program = new URL("../../support/apps/restless-file.py", import.meta.url).pathname;
    const child = spawn("python3", [program, file, how, String(bytes)], { stdio: ["ignore", "pipe", "inherit"] });
    await once(child.stdout, "data");
    return new Writer(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await ended;
  }
}

/** Sizes and hashes of the versions of a file in the log. */
async function versions(scene: TreeScene, path: string): Promise<{ size: number; hash: string }[]> {
  return (await scene.events()).flatMap(({ body }) =>
    body.kind === "file.put" && body.path === path
      ? [{ size: body.size, hash: Buffer.from(body.hash).toString("hex") }]
      : [],
  );
}

const hashOf = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");

test("a large file is captured when it stands still, and holds nobody up before", async () => {
  await using scene = await TreeScene.open();
  await scene.scan();
  const file = scene.at("upload");
  {
    await using _writer = await Writer.start(file, "append", 3_000_000);
    fs.writeFileSync(scene.at("small"), "1");
    const { unsettled } = await scene.look("upload", "small");
    expect(unsettled).toEqual(["upload"]);
    expect(await versions(scene, "small")).toHaveLength(1);
    expect(await versions(scene, "upload")).toEqual([]);
    expect(scene.tree.figures().unstableReads).toBeGreaterThan(0);
  }
  expect((await scene.look("upload")).unsettled).toEqual([]);
  await scene.expectSame();
});

test("a file that is appended to without end gets versions that are all there", async () => {
  await using scene = await TreeScene.open({ clock: fastClock() });
  await scene.scan();
  const file = scene.at("log");
  await using _writer = await Writer.start(file, "append", 3_000_000);
  await until(async () => {
    await scene.look("log");
    return (await versions(scene, "log")).length >= 2;
  });
  const now = fs.readFileSync(file);
  for (const { size, hash } of await versions(scene, "log")) expect(hash).toBe(hashOf(now.subarray(0, size)));
  expect(scene.said.join()).toContain("does not stand still");
});

test("a file that is written all over without end is told, and captured when it rests", async () => {
  await using scene = await TreeScene.open({ clock: fastClock() });
  await scene.scan();
  const file = scene.at("image");
  {
    await using _writer = await Writer.start(file, "inplace", 20_000_000);
    await until(async () => {
      await scene.look("image");
      return scene.said.join().includes("was another one in every read");
    });
    expect(await versions(scene, "image")).toEqual([]);
  }
  await until(async () => (await scene.look("image")).unsettled.length === 0);
  await scene.expectSame();
  fs.rmSync(file);
  await using _writer = await Writer.start(file, "bursts", 8_000_000);
  const before = await versions(scene, "image");
  await until(async () => {
    await scene.look("image");
    return (await versions(scene, "image")).length > before.length;
  });
});

test("what goes on behind a look that has no time is done by the next one", async () => {
  await using scene = await TreeScene.open();
  await scene.scan();
  fs.writeFileSync(scene.at("large"), randomBytes(40_000_000));
  fs.mkdirSync(scene.at("d/e/f"), { recursive: true });
  for (let i = 0; i < 500; i += 1) fs.writeFileSync(scene.at(`d/e/f/${i}`), String(i));
  await new Promise((resolve) => setTimeout(resolve, 150));
  let unsettled = ["large", "d"] as TreePath[];
  let rounds = 0;
  for (; unsettled.length > 0; rounds += 1) {
    const findings = await scene.lookAt(dirtyOf(unsettled), { patienceMs: 5 });
    unsettled = [...findings.unsettled, ...findings.late];
  }
  expect(rounds).toBeGreaterThan(2);
  await scene.expectSame();
  // Its chunks were sent once, though several looks waited for it.
  expect((await scene.counts())["file.chunk"]).toBeLessThan(40_000_000 / 65_536 / 3);
});

test("a directory that no look has time for is listed on where the last one stopped, and anew when all of it is asked for", async () => {
  let nowMs = 0;
  // Time goes by with what is done, not with the machine's.
  await using scene = await TreeScene.open({ clock: { now: () => systemClock.now(), monotonic: () => (nowMs += 1) } });
  await scene.scan();
  fs.mkdirSync(scene.at("d"));
  for (let i = 0; i < 300; i += 1) fs.writeFileSync(scene.at(`d/${i}`), String(i));
  const listed = async (first: Dirty): Promise<number> => {
    let rounds = 0;
    for (let dirty = first; dirty.size > 0; rounds += 1) {
      if (rounds > 300) throw new Error("no look comes further");
      const { unsettled, late } = await scene.lookAt(dirty, { patienceMs: 40 });
      dirty = dirtyOf([...unsettled, ...late]);
    }
    return rounds;
  };
  expect(await listed(dirtyOf(["d" as TreePath]))).toBeGreaterThan(5);
  await scene.expectSame();
  await scene.lookAt(new Map([["d" as TreePath, "all"]]), { patienceMs: 40 });
  fs.writeFileSync(scene.at("d/0"), "another content");
  expect(await listed(new Map([["d" as TreePath, "all"]]))).toBeGreaterThan(5);
  await scene.expectSame();
});

function dirtyOf(paths: readonly TreePath[]): Dirty {
  const dirty = new Map<TreePath, Set<string>>();
  for (const path of paths) dirty.set(parentPath(path), (dirty.get(parentPath(path)) ?? new Set()).add(nameOf(path)));
  return dirty;
}

/** Twenty times as fast as the system's: what takes long is seen soon. */
function fastClock(): Clock {
  return { now: () => systemClock.now(), monotonic: () => systemClock.monotonic() * 20 };
}
