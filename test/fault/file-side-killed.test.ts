import fs from "node:fs";
import path from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { differences } from "../support/random-tree.ts";

// A capture of files and commits dies by SIGKILL between any two steps: the next start goes on by itself, and standby and
// primary are equal, files and rows.

let scene: CrashScene;
let root: string;
let number = 0;
beforeAll(async () => {
  scene = new CrashScene({ config: "files: [{ path: app/uploads, maxDelete: 100% }]\nheartbeat: 2s" });
  root = path.join(scene.deployment.databaseDirectory, "uploads");
  fs.mkdirSync(root);
  await scene.createDatabase();
  for (let times = 0; times < 20; times += 1) change();
});
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
});

/** A small file and a large one, in a new directory; others go. */
function change(): void {
  number += 1;
  const directory = path.join(root, `made-${number}`);
  fs.mkdirSync(directory);
  fs.writeFileSync(path.join(directory, "small"), `small ${number}`);
  fs.writeFileSync(path.join(directory, "large"), Buffer.alloc(700_000, `large ${number}`));
  fs.writeFileSync(path.join(root, "same"), `version ${number}`);
  fs.rmSync(path.join(root, `made-${number - 3}`), { recursive: true, force: true });
}

async function work(): Promise<void> {
  change();
  await scene.insert(1, 500);
}

async function goesOn(): Promise<void> {
  await scene.goesOn();
  expect(differences(root, scene.deployment.standbyOf("uploads"))).toBe("");
}

for (const point of pointsOf("start with files")) {
  test(`${point}: at a start`, async () => {
    await scene.kill();
    await work();
    scene.order(point);
    scene.launch();
    await scene.diesOf(point, work);
    await goesOn();
  });
}

for (const point of pointsOf("files")) {
  test(`${point}: in the middle of work`, async () => {
    await scene.runs();
    scene.order(point, 3);
    await scene.diesOf(point, work);
    await goesOn();
  });
}
