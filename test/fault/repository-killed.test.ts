import path from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import { askAgent } from "../../src/observe/control-client.ts";
import { comparePages } from "../support/compare.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { openDirectoryRepository, writeBaseDatabase } from "../support/read-base.ts";

// The agent dies by SIGKILL in the middle of archiving, of a base and of trimming the log: the next start goes on by itself, the segments
// follow each other without a gap, and the next base is what the primary is.

let scene: CrashScene;
beforeAll(async () => {
  scene = new CrashScene({ config: "repository: backup\ntrim: { keep: 1ms, above: 1KiB }" });
  await scene.createDatabase();
  await scene.runs();
});
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
});

const directory = (): string => path.join(scene.deployment.directory, "backup");

async function makeBase(): Promise<void> {
  await askAgent(scene.deployment.state, { method: "POST", path: "/base", body: {}, timeoutMs: 30_000 });
}

async function requireWhole(): Promise<void> {
  await scene.goesOn();
  await makeBase();
  const { signal } = new AbortController();
  await using repository = await openDirectoryRepository(directory(), scene.deployment.set);
  let through = 0;
  for await (const { first, last } of repository.segments.list(signal)) {
    expect(first).toBeLessThanOrEqual(through + 1);
    through = Math.max(through, last);
  }
  const bases = await repository.bases.list(signal);
  const newest = bases.at(-1);
  const [database] = newest ? (await repository.bases.read(newest, signal)).databases : [];
  if (!newest || !database) throw new Error("there is no base");
  expect(through).toBeGreaterThanOrEqual(newest.offset);
  expect((await repository.bases.verified(signal)).has(newest.uuid)).toBe(true);
  const file = path.join(scene.deployment.directory, "of-base.db");
  await writeBaseDatabase(repository, database, file);
  expect(comparePages(scene.deployment.database, file)).toBeUndefined();
}

for (const point of pointsOf("archive", "bases")) {
  test(`${point}: in the middle of it`, async () => {
    await scene.runs();
    scene.order(point);
    await scene.diesOf(point, async () => {
      await scene.insert(1, 500);
      await makeBase().catch(() => undefined);
    });
    await requireWhole();
  });
}
