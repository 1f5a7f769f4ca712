import { expect, test } from "vitest";

import { Random } from "../support/random.ts";
import { DamageMatrix } from "./support/damage-matrix.ts";

test(
  "any object flipped, cut, gone, swapped or replaced: verify names it, another copy is taken, nothing wrong is handed over",
  { timeout: 180_000 },
  async () => {
    await using matrix = await DamageMatrix.open(new Random("damages"));
    const all = ["bases", "config", "expired", "index", "keys", "locks", "packs", "segments", "verified"];
    expect(await matrix.runSome()).toEqual(new Set(all));
  },
);
