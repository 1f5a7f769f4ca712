/** Random lives of a repository with expiries at random moments. */
import { expiringLife } from "../../test/support/expiring-life.ts";
import { Random } from "../../test/support/random.ts";
import { say, type Outcome, type Scenario } from "./scenario.ts";

export const retention: Scenario = {
  summary:
    "bases, segments, writers that sleep and expiries by changing rules: what is retained can be restored, what is not goes",
  options: {
    lives: { default: "50", help: "histories" },
    steps: { default: "60", help: "changes in each" },
  },
  run: async ({ lives = "", steps = "" }) => {
    const problems: string[] = [];
    let expiries = 0;
    for (let done = 0; done < Number(lives); done += 1) {
      const random = new Random("retention");
      try {
        expiries += (await expiringLife(random, { steps: Number(steps) })).expiries;
      } catch (error) {
        problems.push(`seed ${random.seed}: ${String(error).slice(0, 2000)}`);
      }
      say(`${done + 1} histories, ${expiries} expiries, ${problems.length} problems`);
    }
    const rows = [["expiries", String(expiries)]] as const;
    return { ok: problems.length === 0, problems, figures: { lives: Number(lives), expiries }, rows } satisfies Outcome;
  },
};
