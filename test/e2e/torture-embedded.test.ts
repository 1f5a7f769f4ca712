import { expect, test } from "vitest";

import { Deployment } from "../support/deployment.ts";
import { Random } from "../support/random.ts";
import { Torture } from "../support/torture.ts";

test("three writers, two readers, agents killed again and again: embedded log", { timeout: 240_000 }, async () => {
  const random = new Random("torture-embedded");
  await using deployment = new Deployment();
  const torture = new Torture(deployment, random);
  try {
    await torture.begin(["run"]);
    for (let round = 0; round < 4; round += 1) await torture.kill("run");
    await torture.stop("run");
    await torture.start("capture");
    await torture.start("replica");
    for (let round = 0; round < 3; round += 1) {
      await torture.kill("capture");
      await torture.kill("replica");
    }
    expect(await torture.finish()).toBe(50);
  } finally {
    await torture.end();
  }
});
