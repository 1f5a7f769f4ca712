import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, expect, test } from "vitest";

import type { CrashPoint } from "../../src/runtime/crash-point.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";

// A writer dies by SIGKILL between two effects, life after life in one repository with one cache: what was said to be
// durable is there whole, whatever is referred to is there, and the next writer goes on by itself.

const SUPPORT = new URL("../support/crash/", import.meta.url);
const WRITER = fileURLToPath(new URL("repository-writer.ts", SUPPORT));
const HOOK = fileURLToPath(new URL("crash-hook.ts", SUPPORT));
const DEATH_TIMEOUT_MS = 20_000;

const fixture = new RepositoryFixture();
afterAll(async () => fixture[Symbol.asyncDispose]());
const durable = { blobs: new Set<string>(), segments: new Set<string>(), bases: new Set<string>() };

/** What it said was durable is noted. */
async function liveUntil(point: CrashPoint, nth: number): Promise<void> {
  const orders = path.join(path.dirname(fixture.directory), "order");
  fs.writeFileSync(orders, `${nth} ${point}`);
  const child = spawn(process.execPath, [`--import=${HOOK}`, WRITER, fixture.directory, fixture.cache], {
    env: { ...process.env, TIDEMARK_TEST_CRASH: orders },
    stdio: ["ignore", "pipe", "inherit"],
    signal: AbortSignal.timeout(DEATH_TIMEOUT_MS),
    killSignal: "SIGTERM",
  });
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  const [, killedBy] = (await once(child, "close")) as [number | null, string | null];
  expect(killedBy).toBe("SIGKILL");
  for (const line of said.split("\n").slice(0, -1)) {
    const told = JSON.parse(line) as { blobs?: string[]; segment?: string; base?: string };
    for (const id of told.blobs ?? []) durable.blobs.add(id);
    if (told.segment) durable.segments.add(told.segment);
    if (told.base) durable.bases.add(told.base);
  }
}

async function requireWhole(cacheDirectory: string): Promise<void> {
  await using repository = await fixture.open({ mode: "read", cacheDirectory });
  const { signal } = fixture;
  const segments = await Array.fromAsync(repository.segments.list(signal));
  expect(segments.map(({ name }) => name)).toEqual(expect.arrayContaining([...durable.segments]));
  for (const segment of segments) {
    for await (const events of repository.segments.read(segment, { signal })) events.forEach(({ event }) => event());
  }
  const bases = await repository.bases.list(signal);
  expect(bases.map(({ name }) => name)).toEqual(expect.arrayContaining([...durable.bases]));
  const referred = new Set([...durable.blobs].map((id) => Buffer.from(id, "hex")));
  for (const base of bases) {
    for (const { lists } of (await repository.bases.read(base, signal)).trees)
      for (const id of lists) referred.add(Buffer.from(id));
  }
  expect([...referred].filter((id) => !repository.blobs.has(id))).toEqual([]);
  for await (const data of repository.blobs.readMany(referred, signal)) expect(data.length).toBe(5000);
}

for (const point of pointsOf("repository")) {
  test.each([1, 3])(`${point}: killed the %i. time it comes there`, async (nth) => {
    await liveUntil(point, nth);
    await requireWhole(fixture.cache);
    fs.rmSync(`${fixture.cache}-fresh`, { recursive: true, force: true });
    await requireWhole(`${fixture.cache}-fresh`);
  });
}
