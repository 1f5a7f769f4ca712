import { test } from "vitest";

import { Random } from "../support/random.ts";
import { tortureEmbedded } from "../support/torture.ts";

// `scripts/soak torture` does the same for longer.
test("three writers, two readers, agents killed again and again: embedded log", { timeout: 240_000 }, async () => {
  await tortureEmbedded({ random: new Random("torture-embedded"), rounds: 2, restores: 12 });
});
