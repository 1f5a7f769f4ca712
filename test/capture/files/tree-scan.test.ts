import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";

import { TreeScene } from "../../support/tree-scene.ts";

const sh = (scene: TreeScene, script: string): void =>
  void execFileSync("bash", ["-ec", script], { cwd: scene.root, stdio: ["ignore", "ignore", "inherit"] });

test("a tree of everything is captured as it is, once", async () => {
  await using scene = await TreeScene.open();
  sh(
    scene,
    `mkdir -p a/b/c empty; echo hi > a/f; : > a/none; head -c 70000 /dev/urandom > a/b/middle; head -c 3000000 /dev/urandom > a/b/c/large
     ln -s ../nowhere a/link; ln -s . a/loop; ln a/f a/b/hard; ln a/b/middle empty/../middle2
     cp a/b/c/large a/b/c/copy; setfattr -n user.note -v value a/f; setfattr -n user.d -v 1 a/b; chmod 4711 a/none; chmod 1777 empty
     python3 -c 'import os; open(b"a/\\xff\\xfe name", "w").write("x"); os.mkdir(b"a/\\xe9"); open(b"a/\\xe9/in", "w").write("y")'
     touch -d '1969-01-02 03:04:05.123456789' a/none; touch -d '2001-02-03' a/b/c; sleep 0.15`,
  );
  await scene.scan();
  await scene.expectSame();
  const before = await scene.counts();
  const chunks = before["file.chunk"] ?? 0;
  expect(chunks).toBeGreaterThan(5);
  expect(chunks).toBeLessThan(3000000 / 65536 + 2);
  await scene.scan();
  await scene.stop();
  await scene.start();
  const { removals } = await scene.scan();
  expect(removals).toEqual([]);
  expect(await scene.counts()).toEqual({ ...before, heartbeat: 1 });
});
