import { expect, test } from "vitest";

import { flipBits } from "../support/bit-rot.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";

const PAGE = 4096;

test("killed as it begins to compare a file that was written around SQLite: the next start compares it", async () => {
  await using scene = new CrashScene();
  await scene.createDatabase();
  await scene.launch().waitReady();
  await scene.sync();
  scene.order("copy: begun");
  let page = 100;
  // The WAL proves to the next start that no commit passed, and no more than that.
  await scene.diesOf("copy: begun", async () => {
    flipBits(scene.deployment.database, [page * PAGE + 2000], { unnoticed: false });
    page += 1;
    await new Promise((resolve) => void setTimeout(resolve, 500));
  });
  await scene.goesOn();
  expect(await scene.deployment.repairs()).toBe(1);
});
