import { afterAll, beforeAll, expect, test } from "vitest";

import type { CrashPoint } from "../../src/runtime/crash-point.ts";
import { CrashScene, ROWS } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";

// An agent dies by SIGKILL between two effects: the next start goes on by itself, standby and primary are equal, no
// commit is lost, none is shipped that was not, and nothing is copied twice. Every crash point that there is has a test
// here or in crash-points-rare.test.ts.

let scene: CrashScene;
beforeAll(async () => {
  scene = new CrashScene({ config: "wal: { seal: 256KiB }\nheartbeat: 2s" });
  await scene.createDatabase();
});
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
});

const nothing = async (): Promise<void> => new Promise((resolve) => void setTimeout(resolve, 50));

for (const point of pointsOf("first")) {
  test(`${point}: at the first start`, async () => {
    scene.order(point);
    scene.launch();
    await scene.diesOf(point, nothing);
  });
}

test("the start after all of these ends what they began, with one copy", async () => {
  await scene.goesOn();
  expect((await scene.deployment.commits()).map(({ cause }) => cause)).toEqual(["copy"]);
});

for (const point of pointsOf("restart")) {
  test(`${point}: at a start`, async () => {
    await scene.kill();
    await scene.insert(3, 500);
    scene.order(point);
    scene.launch();
    await scene.diesOf(point, async () => scene.insert(1, 500));
    await scene.goesOn();
  });
}

const WORK: Record<"commits" | "parts" | "seals" | "rest" | "quiet", () => Promise<void>> = {
  commits: async () => scene.insert(1, 500),
  parts: async () => scene.update(ROWS),
  seals: async () => scene.update(3),
  rest: async () => {
    await scene.insert(1, 500);
    await nothing();
  },
  quiet: nothing,
};

for (const [name, work] of Object.entries(WORK)) {
  for (const point of pointsOf(name as keyof typeof WORK)) {
    test(`${point}: in the middle of work (${name})`, async () => {
      await scene.runs();
      scene.order(point, timesOf(point));
      // A seal is for a WAL that is never idle.
      await scene.diesOf(point, work, name === "seals" ? 0 : undefined);
      await scene.goesOn();
    });
  }
}

/** What comes often dies in the midst of it. */
function timesOf(point: CrashPoint): number {
  return /^(append: (frames|hash|header)|ship: commit|log: (inserted|committed|rung)|pin: (next|captured|handed))/.test(
    point,
  )
    ? 5
    : 1;
}

for (const point of pointsOf("mark")) {
  test(`${point}: a mark is in the log once or not at all, and its name is free only when it is not`, async () => {
    const name = point.replace(": ", "-");
    await scene.runs();
    scene.order(point);
    await scene.diesOf(point, async () => scene.mark(name).catch(() => undefined));
    await scene.goesOn();
    const marksNow = async (): Promise<number> =>
      (await scene.deployment.events()).filter(({ body }) => body.kind === "mark" && body.name === name).length;
    if ((await marksNow()) === 0) await scene.mark(name);
    else await expect(scene.mark(name)).rejects.toThrow(/there is a mark/);
    expect(await marksNow()).toBe(1);
  });
}

test("nothing was copied again", async () => {
  const causes = (await scene.deployment.commits()).map(({ cause }) => cause);
  expect(causes.filter((cause) => cause === "copy")).toEqual(["copy"]);
});
