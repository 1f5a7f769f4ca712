import path from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import { Program } from "../support/apps/program.ts";
import type { ImagedDatabase } from "../support/database-images.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { Random } from "../support/random.ts";
import { differences, RandomTree } from "../support/random-tree.ts";
import { query } from "../support/replica-fixture.ts";
import { contentsOf, StandbyTreeScene } from "../support/standby-tree.ts";

// A replica dies by SIGKILL at every step of applying trees: no file is torn then, and the next start goes on by itself.

const REPLICA = path.join(import.meta.dirname, "../support/replica-program.ts");

let scene: StandbyTreeScene;
let tree: RandomTree;
let app: ImagedDatabase;
/** Every content that any file ever had. */
const contents = new Set<string>();
const random = new Random("trees killed");
beforeAll(async () => {
  scene = await StandbyTreeScene.open({ inline: 2000 });
  tree = new RandomTree(scene.root, random);
  app = scene.fixture.source("app.db");
});
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
});

/** Changes of all kinds, a commit in the middle of them, and something that is removed. */
async function work(): Promise<void> {
  const { log } = scene.fixture;
  scene.write("doomed/file", String(random.next()));
  await publish();
  tree.change(40);
  scene.write(`kept-${random.next()}`, "content");
  const { puts, removals } = scene.source.changes();
  for (const hash of contentsOf(scene.root)) contents.add(hash);
  await log.append(puts);
  app.connection.exec("INSERT INTO t (body) VALUES (randomblob(5000))");
  await log.ship("app.db", app);
  if (removals.length > 0) await log.append(removals);
}

async function publish(): Promise<void> {
  await scene.publish();
  for (const hash of contentsOf(scene.root)) contents.add(hash);
}

async function dies(point: string, nth: number): Promise<void> {
  const { log, standby } = scene.fixture;
  const directory = log.log.location.replace("embedded:", "");
  await using program = new Program([process.execPath, REPLICA, directory, standby, point, String(nth)]);
  // What is removed must have been there: half of the work comes when the program follows.
  expect((await program.exited).signal).toBe("SIGKILL");
}

async function goesOn(): Promise<void> {
  const torn = contentsOf(scene.standby).filter((hash) => !contents.has(hash));
  expect(torn).toEqual([]);
  await scene.fixture.ready();
  expect(differences(scene.root, scene.standby)).toBe("");
  expect(query(scene.fixture.file("app.db"), "SELECT count(*) FROM t")).toBe(
    String(app.connection.prepare("SELECT count(*) FROM t").pluck().get()),
  );
  await scene.fixture.stop();
}

for (const point of pointsOf("first of a tree")) {
  test(`${point}: at the first event of a tree`, async () => {
    await work();
    await dies(point, 1);
    await scene.fixture.ready();
    await scene.fixture.stop();
    expect(differences(scene.root, scene.standby)).toBe("");
  });
}

for (const point of pointsOf("trees")) {
  test(`${point}: while changes are caught up with`, async () => {
    await work();
    await work();
    await dies(point, /one|removed/.test(point) ? random.integer(1, 3) : 1);
    await goesOn();
  });
}
