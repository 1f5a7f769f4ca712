import { expect, test } from "vitest";

import { Random } from "../support/random.ts";
import { archivedLife } from "./support/archived-life.ts";

test(
  "at random offsets what was there, from the repository alone, the log alone and both",
  { timeout: 60_000 },
  async () => {
    const base = await archivedLife({ random: new Random("restore from a repository"), steps: 30, points: 4 });
    expect(base).toBeGreaterThan(0);
  },
);
