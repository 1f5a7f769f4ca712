import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { afterAll, beforeAll, expect, test } from "vitest";

import { FileIndex } from "../../src/capture/files/file-index.ts";
import type { LogEvent } from "../../src/event/kinds.ts";
import type { CrashPoint } from "../../src/runtime/crash-point.ts";
import { captureHere } from "../support/capture-here.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { contentsOfLog } from "../support/log-contents.ts";
import { foldOf, pictureOf } from "../support/tree-scene.ts";

// A capture of files dies by SIGKILL at every step of scan, read, publish and index, and meanwhile the files change: the
// next start goes on by itself, and no content that is in the log is lost to it (docs/reliability.md, "P7").

const LARGE_BYTES = 3_000_000;

let scene: CrashScene;
let root: string;
/** Contents that a large file had, and may have in the log only in part. */
const wasThere: Buffer[] = [];
let number = 0;
beforeAll(async () => {
  scene = new CrashScene({ config: "files: [{ path: app/uploads, maxDelete: 100% }]" });
  root = scene.deployment.pathOf("uploads");
  fs.mkdirSync(root);
  await scene.app.run("PRAGMA journal_mode=WAL");
  await scene.app.run("CREATE TABLE t (id INTEGER PRIMARY KEY)");
});
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
});

/** A directory with a small file; large ones and one that is changed over and over; what was made two calls ago goes. */
function change(): void {
  number += 1;
  const directory = path.join(root, `made-${number}/deeper`);
  fs.mkdirSync(directory, { recursive: true });
  fs.writeFileSync(path.join(directory, "small"), `small ${number}`);
  for (const name of ["large", "other"]) {
    const content = randomBytes(LARGE_BYTES);
    wasThere.push(content);
    fs.writeFileSync(path.join(root, name), content);
  }
  fs.rmSync(path.join(root, `made-${number - 2}`), { recursive: true, force: true });
}

/** Nothing changes while it lives. */
async function diesAtStart(point: CrashPoint, nth: number): Promise<void> {
  scene.order(point, nth);
  scene.launch("capture");
  await scene.diesOf(point, async () => sleep(20));
}

/** Everything the log holds when the next start has looked at everything. */
async function goesOn(): Promise<readonly LogEvent[]> {
  await captureHere(scene.deployment, async (agent) => {
    await agent.sync();
    expect(agent.status().files).toMatchObject([{ state: "following", dirty: 0, problem: undefined }]);
  });
  const events = await scene.deployment.events();
  expect(foldOf(events)).toEqual(pictureOf(root));
  expectNoneOrphaned(events);
  return events;
}

/** No content is in the log twice; what no file names is known to the index, for the next file that has it. */
function expectNoneOrphaned(events: readonly LogEvent[]): void {
  const { carried, named } = contentsOfLog(events);
  expect([...carried.values()].filter((times) => times > 1)).toEqual([]);
  using index = new FileIndex(scene.deployment.state);
  expect([...carried.keys()].filter((id) => !named.has(id) && !index.hasContent(id))).toEqual([]);
}

/** Nearly all of the files are read when it dies. */
const NTH: Partial<Record<CrashPoint, number>> = { "tree: directory listed": 2, "tree: chunk said": 15 };

for (const point of pointsOf("scan")) {
  test(`${point}: files change before the next start`, async () => {
    change();
    await diesAtStart(point, NTH[point] ?? 1);
    change();
    await goesOn();
  });
}

for (const point of pointsOf("replay")) {
  test(`${point}: at the start after a death`, async () => {
    change();
    await diesAtStart("tree: large file read", 1);
    await diesAtStart(point, 1);
    change();
    await goesOn();
  });
}

test("content that was read before a death, and of no file in the log, is not sent again when a file has it", async () => {
  const before = contentsOfLog(await scene.deployment.events());
  const unnamed = [...before.carried.keys()].filter((id) => !before.named.has(id));
  expect(unnamed.length).toBeGreaterThan(5);
  for (const [index, content] of wasThere.entries()) fs.writeFileSync(path.join(root, `back-${index}`), content);
  const after = contentsOfLog(await goesOn());
  expect(unnamed.filter((id) => !after.named.has(id))).toEqual([]);
});
