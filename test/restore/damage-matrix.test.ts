import { expect, test } from "vitest";

import { Random } from "../support/random.ts";
import { DamageMatrix } from "./support/damage-matrix.ts";

test(
  "any object flipped, cut, gone, swapped or replaced: verify names it, another copy is taken, nothing wrong is handed over",
  { timeout: 60_000 },
  async () => {
    await using matrix = await DamageMatrix.open(new Random("damages"));
    expect(await matrix.run({ everyObject: false })).toBe(45);
  },
);
