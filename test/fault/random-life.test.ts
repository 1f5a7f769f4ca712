import { test } from "vitest";

import { RandomLife } from "../support/crash/random-life.ts";
import { Random } from "../support/random.ts";

// Transactions, savepoints rolled back after they spilled, checkpoints of all kinds, VACUUM, schema changes, from several
// processes; deaths of applications, agents and the machine, its disk as a power cut may leave it. `scripts/soak crashes`
// does the same for hours.

const SECONDS = 8;

test("whatever the application does and whoever dies, standby and primary are equal after it", async () => {
  await using life = new RandomLife(new Random("random-life"));
  await life.begin();
  const until = performance.now() + SECONDS * 1000;
  while (performance.now() < until) await life.round(10);
  await life.finish();
  process.stdout.write(`${life.steps} steps, deaths ${JSON.stringify(life.deaths)}\n`);
}, 120_000);
