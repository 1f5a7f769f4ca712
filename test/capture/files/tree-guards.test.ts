import { execFileSync } from "node:child_process";
import fs from "node:fs";

import { expect, test } from "vitest";

import { codeOf } from "../../support/log-records.ts";
import { TreeScene } from "../../support/tree-scene.ts";

function fill(scene: TreeScene, count: number): void {
  fs.mkdirSync(scene.at("d"), { recursive: true });
  for (let i = 0; i < count; i += 1) fs.writeFileSync(scene.at(`d/${i}`), String(i));
}

test("a root that is gone, empty, or lost most of its files removes nothing", async () => {
  await using scene = await TreeScene.open();
  fill(scene, 40);
  await scene.scan();
  const before = await scene.counts();
  const aside = `${scene.root}-aside`;
  fs.renameSync(scene.root, aside);
  expect(await codeOf(scene.scan())).toBe("TREE_MISSING");
  expect(await codeOf(scene.look("d"))).toBe("TREE_MISSING");
  fs.mkdirSync(scene.root);
  await expect(scene.scan()).rejects.toThrow(/uploads is empty; the log holds 40 files of it/);
  expect(await codeOf(scene.look("d"))).toBe("TREE_EMPTIED");
  fs.rmdirSync(scene.root);
  fs.renameSync(aside, scene.root);
  await scene.scan();
  for (let i = 0; i < 21; i += 1) fs.rmSync(scene.at(`d/${i}`));
  await expect(scene.scan()).rejects.toThrow(/21 of 40 files \(52 %\) of .* are gone at once/);
  expect(await codeOf(scene.lookAt(new Map([["d" as never, "all"]])))).toBe("MASS_DELETION");
  expect((await scene.counts())["file.remove"]).toBeUndefined();
  expect((await scene.counts())["dir.remove"]).toBe(before["dir.remove"]);
  await scene.restart({ acceptEmpty: true });
  expect((await scene.scan()).removals).toHaveLength(21);
  await scene.expectSame();
  for (let i = 21; i < 38; i += 1) fs.rmSync(scene.at(`d/${i}`));
  expect(await codeOf(scene.scan())).toBe("MASS_DELETION");
});

test("a mount that is gone leaves its directory: nothing is removed", async () => {
  await using scene = await TreeScene.open();
  execFileSync("mount", ["-t", "tmpfs", "tmpfs", scene.root]);
  try {
    fill(scene, 3);
    await scene.scan();
  } finally {
    execFileSync("umount", [scene.root]);
  }
  expect(await codeOf(scene.scan())).toBe("TREE_EMPTIED");
  expect(await codeOf(scene.look("d"))).toBe("TREE_EMPTIED");
});

test("a tree may be a single file, also behind a link that is turned", async () => {
  const scene = await TreeScene.open();
  const env = scene.at(".env");
  fs.writeFileSync(scene.at("one"), "A=1");
  fs.symlinkSync("one", env);
  await scene.restart({ path: env, name: "env" });
  await using _scene = scene;
  await scene.scan();
  const size = async (): Promise<unknown[]> =>
    (await scene.events()).flatMap(({ body }) => (body.kind === "file.put" ? [[body.path, body.size]] : []));
  expect(await size()).toEqual([["", 3]]);
  fs.writeFileSync(scene.at("two"), "A=12");
  fs.symlinkSync("two", scene.at("next"));
  fs.renameSync(scene.at("next"), env);
  await scene.lookAt(new Map([["" as never, "all"]]));
  expect(await size()).toEqual([
    ["", 3],
    ["", 4],
  ]);
  fs.rmSync(env);
  expect(await codeOf(scene.scan())).toBe("TREE_MISSING");
});
