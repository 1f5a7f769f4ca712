import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, test } from "vitest";

import { takeLock } from "../../src/repository/object-lock.ts";
import type { CrashPoint } from "../../src/runtime/crash-point.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { Random } from "../support/random.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";
import { HOUR_MS, RetainedLife, SetClock } from "../support/retained-life.ts";

// An expire dies by SIGKILL between two effects: what is retained can be restored, by those who have seen the repository
// before and by those who have not, and the next expire goes on.

const SUPPORT = new URL("../support/crash/", import.meta.url);
const RUNNER = fileURLToPath(new URL("expire-runner.ts", SUPPORT));
const HOOK = fileURLToPath(new URL("crash-hook.ts", SUPPORT));
const DEATH_TIMEOUT_MS = 20_000;

const fixture = new RepositoryFixture({ inMemory: true });
const clock = new SetClock();
const life = new RetainedLife(new Random("expire killed"), clock);
const rules = { last: 2 };

beforeAll(async () => {
  for (let day = 0; day < 6; day += 1) {
    await aDay();
    await using repository = await fixture.open({ clock });
    await life.expire(repository, rules);
  }
});
afterAll(async () => fixture[Symbol.asyncDispose]());

async function aDay(): Promise<void> {
  await using repository = await fixture.open({ clock });
  clock.nowMs += 26 * HOUR_MS;
  for (let part = 0; part < 3; part += 1) {
    life.change();
    await life.archive(repository);
  }
  life.putFresh();
  await life.base(repository);
}

/** Whether it came there. */
async function expireUntil(point: CrashPoint, nth: number): Promise<boolean> {
  const orders = path.join(path.dirname(fixture.directory), "order");
  fs.writeFileSync(orders, `${nth} ${point}`);
  const words = [fixture.directory, fixture.cache, String(clock.nowMs), JSON.stringify(rules)];
  const child = spawn(process.execPath, [`--import=${HOOK}`, RUNNER, ...words], {
    env: { ...process.env, TIDEMARK_TEST_CRASH: orders },
    stdio: "inherit",
    signal: AbortSignal.timeout(DEATH_TIMEOUT_MS),
    killSignal: "SIGTERM",
  });
  const [code, killedBy] = (await once(child, "close")) as [number | null, string | null];
  expect([code, killedBy]).toEqual(killedBy === null ? [0, null] : [null, "SIGKILL"]);
  return killedBy === "SIGKILL";
}

async function requireRetained(cacheDirectory: string): Promise<void> {
  await using repository = await fixture.open({ clock, cacheDirectory });
  const { bases, from } = await life.requireRetained(repository);
  expect(bases).toBeGreaterThanOrEqual(2);
  expect(from).not.toBeUndefined();
}

/** The dead hold nothing up on the machine on which they died. */
async function requireUnlocked(): Promise<void> {
  await using repository = await fixture.open({ clock });
  expect(fixture.names("locks/").length).toBe(1);
  const { objects } = repository;
  const { signal } = fixture;
  await (await takeLock({ objects, clock, mode: "exclusive", signal, settleMs: 0 }))[Symbol.asyncDispose]();
  expect(fixture.names("locks/")).toEqual([]);
}

test.each(pointsOf("expire"))("%s: killed there", async (point) => {
  let came = false;
  for (let day = 0; day < 8 && !came; day += 1) {
    await aDay();
    came = await expireUntil(point, 1);
  }
  expect(came).toBe(true);
  await requireUnlocked();
  await requireRetained(fixture.cache);
  fs.rmSync(`${fixture.cache}-fresh`, { recursive: true, force: true });
  await requireRetained(`${fixture.cache}-fresh`);
  await using repository = await fixture.open({ clock });
  await life.expire(repository, rules);
  await requireRetained(`${fixture.cache}-fresh`);
});
