import { test } from "vitest";

import { Random } from "../support/random.ts";
import { tortureNats } from "../support/torture.ts";

// `scripts/soak torture` does the same for longer.
test("three writers, two readers, agents and server killed again and again: NATS", { timeout: 240_000 }, async () => {
  await tortureNats({ random: new Random("torture-nats"), rounds: 2, restores: 12 });
});
