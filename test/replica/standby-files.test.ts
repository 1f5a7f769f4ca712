import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { Random } from "../support/random.ts";
import { differences, RandomTree } from "../support/random-tree.ts";
import { applied } from "../support/replica-fixture.ts";
import { StandbyTreeScene } from "../support/standby-tree.ts";

test("a standby of trees only becomes like the primary, and follows", async () => {
  await using scene = await StandbyTreeScene.open();
  scene.write("a/b/c.txt", "hello");
  scene.write("big.bin", Buffer.alloc(3_000_000, "0123456789abcdefg"));
  fs.symlinkSync("a/b", path.join(scene.root, "link"));
  fs.linkSync(path.join(scene.root, "big.bin"), path.join(scene.root, "a/other-name"));
  await scene.publish();
  const agent = await scene.fixture.ready();
  expect(differences(scene.root, scene.standby)).toBe("");
  fs.appendFileSync(path.join(scene.root, "big.bin"), "more");
  fs.rmSync(path.join(scene.root, "a/b"), { recursive: true });
  scene.write("a/b", "a file now");
  await applied(agent, await scene.publish());
  expect(differences(scene.root, scene.standby)).toBe("");
});

test("random changes, batch by batch and caught up at once", async () => {
  await using scene = await StandbyTreeScene.open({ inline: 1000 });
  const random = new Random("random trees");
  const tree = new RandomTree(scene.root, random);
  await scene.publish();
  const agent = await scene.fixture.ready();
  for (let round = 0; round < 30; round += 1) {
    tree.change(random.integer(1, 60));
    await applied(agent, await scene.publish());
    expect(differences(scene.root, scene.standby)).toBe("");
  }
  await scene.fixture.stop();
  for (let round = 0; round < 10; round += 1) {
    tree.change(40);
    await scene.publish();
  }
  await scene.fixture.ready();
  expect(differences(scene.root, scene.standby)).toBe("");
});
