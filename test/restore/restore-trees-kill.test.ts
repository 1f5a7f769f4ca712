import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { Random } from "../support/random.ts";
import type { Picture } from "../support/tree-scene.ts";
import { restoreAndKill } from "./support/kill-restore.ts";
import { expectRestored, TreeBench } from "./support/tree-bench.ts";

let bench: TreeBench;
let expected: Picture;
let target: string;
beforeEach(async () => {
  bench = await TreeBench.open();
  await bench.change(`for d in 1 2 3 4 5; do mkdir -p d$d/in; for f in $(seq 30); do echo $d $f > d$d/in/f$f; done; done
    for l in 1 2 3; do head -c 4000000 /dev/urandom > large$l; done; ln -s large1 link; ln large2 twin
    python3 -c 'open(b"d1/\\xff", "w").write("x")'; chmod 555 d2/in d2; chmod 000 d3/in/f1`);
  expected = await bench.pictureAt(bench.head);
  target = bench.newTarget();
});
afterEach(async () => {
  await bench[Symbol.asyncDispose]();
});

test("killed at any moment a restore of a tree leaves nothing or all of it", { timeout: 60_000 }, async () => {
  const random = new Random("kills of a restore");
  let unfinished = 0;
  for (const phase of ["write", "verify", "verify"] as const) {
    const moment = { phase, afterMs: random.integer(0, 60) };
    const finished = await restoreAndKill(moment, path.join(bench.scene.directory, "log"), target);
    if (!finished) unfinished += 1;
    if (fs.existsSync(target)) expectRestored(target, expected);
    else expect(finished).toBe(false);
    fs.rmSync(target, { recursive: true, force: true });
    await bench.restore({ directory: target });
    expectRestored(target, expected);
    expect(bench.leftInTargets()).toEqual([path.basename(target)]);
    fs.rmSync(target, { recursive: true });
  }
  expect(unfinished).toBeGreaterThan(0);
});

test("a restore that is stopped leaves nothing", async () => {
  for (const phase of ["write", "verify"] as const) {
    const stop = new AbortController();
    const onProgress = (progress: { phase: string }): void => {
      if (progress.phase === phase) stop.abort();
    };
    const restoring = bench.restore({ directory: target, signal: stop.signal, onProgress });
    await expect(restoring, phase).rejects.toMatchObject({ code: "INTERRUPTED" });
    expect(bench.leftInTargets()).toEqual([]);
  }
});
