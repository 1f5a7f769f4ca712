/** Every object of a repository, spoilt in every way. */
import { DamageMatrix } from "../../test/restore/support/damage-matrix.ts";
import { Random } from "../../test/support/random.ts";
import { say, type Outcome, type Scenario } from "./scenario.ts";

export const damage: Scenario = {
  summary: "every object flipped, cut, gone, swapped, replaced: verify names it, restore takes another copy or stops",
  options: {
    rounds: {
      default: "3",
      help: "each with another history, other bits and other places, and every second one encrypted",
    },
  },
  run: async ({ rounds = "" }) => {
    const problems: string[] = [];
    let damages = 0;
    for (let round = 0; round < Number(rounds); round += 1) {
      const random = new Random("damages");
      try {
        await using matrix = await DamageMatrix.open(random, { encrypted: round % 2 === 0 });
        damages += await matrix.runAll();
      } catch (error) {
        problems.push(`seed ${random.seed}: ${String(error).slice(0, 2000)}`);
      }
      say(`${round + 1} rounds, ${problems.length} problems`);
    }
    const rows = [["damages", String(damages)]] as const;
    return {
      ok: problems.length === 0,
      problems,
      figures: { rounds: Number(rounds), damages },
      rows,
    } satisfies Outcome;
  },
};
