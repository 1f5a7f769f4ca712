/** Random lives of an application beside Tidemark, one after the other: applications, agents and the machine die. */
import { RandomLife } from "../../test/support/crash/random-life.ts";
import { CutScene } from "../../test/support/power-cut/cut-scene.ts";
import { Random } from "../../test/support/random.ts";
import { say, type Outcome, type Scenario } from "./scenario.ts";

const CUTS = 10;

export const crashes: Scenario = {
  summary: "random statements, kill -9 of application and agents, power cuts with torn disks: always equal after it",
  options: {
    minutes: { default: "10", help: "how long" },
    rounds: { default: "15", help: "deaths in each life" },
  },
  run: async ({ minutes = "", rounds = "" }) => {
    const figures = { lives: 0, steps: 0, app: 0, agent: 0, machine: 0, cuts: 0 };
    const problems: string[] = [];
    const until = performance.now() + Number(minutes) * 60_000;
    while (performance.now() < until) {
      const random = new Random("crashes");
      try {
        await oneLife(random, { rounds: Number(rounds), figures });
        await someCuts(random, figures);
      } catch (error) {
        problems.push(`seed ${random.seed}: ${String(error).slice(0, 2000)}`);
        say(problems.at(-1) ?? "");
      }
      say(`${JSON.stringify(figures)}, ${problems.length} problems`);
    }
    const rows = Object.entries(figures).map(([name, count]) => [name, String(count)] as const);
    return { ok: problems.length === 0, problems, figures, rows } satisfies Outcome;
  },
};

type Figures = Record<"lives" | "steps" | "app" | "agent" | "machine" | "cuts", number>;

async function oneLife(random: Random, { rounds, figures }: { rounds: number; figures: Figures }): Promise<void> {
  await using life = new RandomLife(random);
  await life.begin();
  for (let round = 0; round < rounds; round += 1) await life.round(random.integer(0, 40));
  await life.finish();
  figures.lives += 1;
  figures.steps += life.steps;
  for (const who of ["app", "agent", "machine"] as const) figures[who] += life.deaths[who];
}

async function someCuts(random: Random, figures: Figures): Promise<void> {
  const synchronous = random.pick<"NORMAL" | "FULL">(["NORMAL", "FULL"]);
  await using scene = new CutScene(random, { synchronous, recordMs: 2500 });
  await scene.record();
  for (let cut = 0; cut < CUTS; cut += 1) {
    await scene.cut();
    figures.cuts += 1;
  }
}
