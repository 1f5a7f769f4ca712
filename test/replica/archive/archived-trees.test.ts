import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { bytesOf } from "../../../src/event/tree-path.ts";
import { chunksOfEntry } from "../../../src/tree/tree-index.ts";
import { ArchiveScene } from "../../support/archive-scene.ts";
import { applied } from "../../support/replica-fixture.ts";
import { StandbyTreeScene } from "../../support/standby-tree.ts";
import { waitFor } from "../../support/wait.ts";

const { signal } = new AbortController();

test("contents come into the repository with the events, or from the log and the standby where they came before it", async () => {
  await using trees = await StandbyTreeScene.open({ inline: 1000 });
  const { fixture } = trees;
  trees.write("small.txt", "a few words");
  trees.write("large.bin", randomBytes(3_000_000));
  trees.write("deep/er/file.bin", randomBytes(200_000));
  fs.symlinkSync("small.txt", path.join(trees.root, "link"));
  await trees.publish();
  const agent = await fixture.ready();
  await using scene = new ArchiveScene(fixture);
  scene.start(agent, [scene.repository("early")]);
  await waitFor("a base", () => scene.agent.status()[0]?.base);
  await scene.stop();
  trees.write("large.bin", Buffer.concat([randomBytes(100), fs.readFileSync(path.join(trees.root, "large.bin"))]));
  trees.write("new.bin", randomBytes(500_000));
  const head = await trees.publish();
  await applied(agent, head);
  // In the log no more: what only the standby has.
  await fixture.log.log.trim(head);
  scene.start(agent, [scene.repository("late")]);
  await waitFor("a base", () => scene.agent.status()[0]?.base?.offset === head);
  await using repository = await scene.open("late");
  using image = await agent.image(new Map(), signal);
  let chunks = 0;
  for (const entry of image.trees?.index.entries("uploads") ?? []) {
    if (entry.kind !== "file") continue;
    for (const { id, size } of chunksOfEntry(entry)) {
      expect((await repository.blobs.read(bytesOf(id), signal)).length).toBe(size);
      chunks += 1;
    }
  }
  expect(chunks).toBeGreaterThan(5);
  const { trees: described } = await scene.manifest("late");
  const files = ["small.txt", "large.bin", "deep/er/file.bin", "new.bin"];
  const bytes = files.reduce((sum, name) => sum + fs.statSync(path.join(trees.root, name)).size, 0);
  expect(described).toMatchObject([{ name: "uploads", count: 1 + 2 + files.length + 1, bytes }]);
  await scene.base();
  expect((await scene.base()).bytesNew).toBe(0);
});
