import { expect, test } from "vitest";

import { CutScene } from "../support/power-cut/cut-scene.ts";
import { Random } from "../support/random.ts";

// Application, agent, log and standby on one disk, every effect on it recorded; then the power is cut at moments of that
// recording. What was synced is there, of the rest any sectors, sizes and names. The machine starts, and all is well:
// no acknowledged record is lost, the standby shows nothing that the log does not hold and equals the primary in the
// end, also when the application's own recovery took commits back that the log has; every offset is restorable.

const CUTS = 3;

test("the power is cut at any moment: the machine comes up by itself, and standby and primary are equal", async () => {
  const random = new Random("power-cut");
  const synchronous = random.pick<"NORMAL" | "FULL">(["NORMAL", "FULL"]);
  await using scene = new CutScene(random, { synchronous, recordMs: 2000 });
  await scene.record();
  // The recorder saw everything: its journal makes the very same files.
  expect(scene.recording.differences()).toEqual([]);
  for (let cuts = 0; cuts < CUTS; cuts += 1) {
    process.stdout.write(`synchronous=${synchronous}: ${JSON.stringify(await scene.cut())}\n`);
  }
}, 120_000);
