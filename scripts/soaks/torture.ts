/** Writers, readers and restores while agents and the NATS server are killed, on both logs in turn. */
import { Random } from "../../test/support/random.ts";
import { tortureEmbedded, tortureNats } from "../../test/support/torture.ts";
import { say, type Outcome, type Scenario } from "./scenario.ts";

export const torture: Scenario = {
  summary: "three writers, two readers, agents and server killed again and again, any moment restored; both logs",
  options: {
    minutes: { default: "10", help: "how long" },
    rounds: { default: "4", help: "deaths of each agent before everything is compared" },
    restores: { default: "25", help: "to offsets, and as many to times" },
  },
  run: async ({ minutes = "", rounds = "", restores = "" }) => {
    const lives = { embedded: 0, nats: 0 };
    const problems: string[] = [];
    const until = performance.now() + Number(minutes) * 60_000;
    while (performance.now() < until) {
      for (const [log, live] of [
        ["embedded", tortureEmbedded],
        ["nats", tortureNats],
      ] as const) {
        const random = new Random(`torture ${log}`);
        try {
          await live({ random, rounds: Number(rounds), restores: Number(restores) });
          lives[log] += 1;
        } catch (error) {
          problems.push(`${log}, seed ${random.seed}: ${String(error).slice(0, 2000)}`);
        }
        say(`${JSON.stringify(lives)}, ${problems.length} problems`);
      }
    }
    const rows = Object.entries(lives).map(([log, count]) => [`lives, ${log}`, String(count)] as const);
    return { ok: problems.length === 0, problems, figures: lives, rows } satisfies Outcome;
  },
};
