import { expect, test } from "vitest";

import { Random } from "../support/random.ts";
import { DamageMatrix } from "./support/damage-matrix.ts";

test.each([true, false])(
  "any object flipped, cut, gone, swapped or replaced: verify names it, another copy is taken, nothing wrong is handed over (encrypted: %s)",
  { timeout: 180_000 },
  async (encrypted) => {
    await using matrix = await DamageMatrix.open(new Random("damages"), { encrypted });
    const all = ["bases", "config", "expired", "index", "locks", "packs", "segments", "verified"];
    expect(await matrix.runSome()).toEqual(new Set([...all, ...(encrypted ? ["keys"] : [])]));
  },
);
