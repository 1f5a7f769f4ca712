/** Random offsets of random histories restored from repositories, logs, and both. */
import { archivedLife } from "../../test/restore/support/archived-life.ts";
import { Random } from "../../test/support/random.ts";
import { placesOf } from "./stores.ts";
import { say, type Outcome, type Scenario } from "./scenario.ts";

export const restores: Scenario = {
  summary: "any moment from the repository alone, the log alone and both: what was there, databases and files",
  options: {
    lives: { default: "2", help: "histories" },
    steps: { default: "80", help: "changes in each" },
    points: { default: "100", help: "offsets of each" },
    store: { default: "directory", help: "where the repository is: directory, s3 or sftp" },
  },
  run: async ({ lives = "", steps = "", points = "", store = "" }) => {
    await using places = await placesOf(store);
    const problems: string[] = [];
    let done = 0;
    for (; done < Number(lives); done += 1) {
      const random = new Random("restores");
      try {
        await archivedLife({ random, steps: Number(steps), points: Number(points), store: await places.next() });
      } catch (error) {
        problems.push(`seed ${random.seed}: ${String(error).slice(0, 2000)}`);
      }
      say(`${done + 1} histories, ${problems.length} problems`);
    }
    const offsets = done * (Number(points) + 1);
    const rows = [["offsets restored", String(offsets)]] as const;
    return { ok: problems.length === 0, problems, figures: { store, lives: done, offsets }, rows } satisfies Outcome;
  },
};
