/** Scrubs without end under writers that checkpoint and truncate all the time: none may find a difference. */
import path from "node:path";

import { DEFAULT_BANK } from "../../test/support/apps/bank.ts";
import { createBank, startWriter } from "../../test/support/apps/bank-programs.ts";
import { type Program, reportOf } from "../../test/support/apps/program.ts";
import { SqlSession } from "../../test/support/apps/sql-session.ts";
import type { WriterReport } from "../../test/support/apps/writer.ts";
import { Deployment } from "../../test/support/deployment.ts";
import { Random } from "../../test/support/random.ts";
import { say, type Outcome, type Scenario } from "./scenario.ts";

const AUTOCHECKPOINTS = [1, 7, 50];
const SAY_MS = 20_000;

export const scrub: Scenario = {
  summary: "scrubs on both sides under three writers (autocheckpoint 1, 7 and 50), TRUNCATE and VACUUM: no false alarm",
  options: {
    minutes: { default: "3", help: "how long" },
    rate: { default: "2000", help: "commits a second of each writer, if the machine allows" },
  },
  run: async ({ minutes = "", rate = "" }) => {
    await using deployment = new Deployment({ config: "scrub: 50ms\nscrubRate: 1GiB\nwal: { seal: 256KiB }" });
    const random = new Random("scrub");
    await createBank(deployment.database, DEFAULT_BANK);
    const agent = await deployment.start("run");
    const writers = await startWriters(deployment, { random, rate: Number(rate) });
    const count = (text: string): number => agent.output.stderr.split(text).length - 1;
    const until = performance.now() + Number(minutes) * 60_000;
    await using app = new SqlSession(deployment.database);
    for (let saidMs = 0; performance.now() < until;) {
      const grow = `CREATE TABLE IF NOT EXISTS x (b); INSERT INTO x VALUES (randomblob(${random.integer(1, 60) * 10_000}))`;
      // VACUUM may meet a writer's lock for too long.
      await app.run(random.pick(["VACUUM", grow, "DELETE FROM x"])).catch(() => undefined);
      if (performance.now() - saidMs < SAY_MS) continue;
      saidMs = performance.now();
      say(`${count("scrub done")} scrubs of the primary, ${count("may have passed unseen")} gaps`);
    }
    const reports: WriterReport[] = [];
    for (const writer of writers) reports.push(await reportOf<WriterReport>(writer));
    const difference = await deployment.difference();
    return outcome({
      commits: reports.reduce((sum, { commits }) => sum + commits, 0),
      scrubs: count("scrub done"),
      gaps: count("may have passed unseen"),
      falseAlarms: count("not what the log holds") + count("not what the log says"),
      differingPages: difference?.count ?? 0,
    });
  },
};

async function startWriters(
  { database, directory }: Deployment,
  { random, rate }: { random: Random; rate: number },
): Promise<Program[]> {
  return Promise.all(
    AUTOCHECKPOINTS.map(async (autocheckpoint, writer) => {
      const journal = path.join(directory, `${writer}.journal`);
      const truncateEvery = random.integer(20, 200);
      const options = { database, journal, writer, bank: DEFAULT_BANK, burst: 10 };
      return startWriter({ ...options, rate, autocheckpoint, truncateEvery });
    }),
  );
}

interface Figures {
  readonly commits: number;
  readonly scrubs: number;
  readonly gaps: number;
  readonly falseAlarms: number;
  readonly differingPages: number;
}

function outcome(figures: Figures): Outcome {
  const { commits, scrubs, gaps, falseAlarms, differingPages } = figures;
  const problems = [
    ...(falseAlarms > 0 ? [`${falseAlarms} differences found where there are none`] : []),
    ...(differingPages > 0 ? [`the standby differs in ${differingPages} pages`] : []),
    ...(scrubs === 0 ? ["no scrub came to its end"] : []),
  ];
  const rows = [
    ["commits", String(commits)],
    ["scrubs of the primary", String(scrubs)],
    ["gaps, repaired", String(gaps)],
    ["false alarms", String(falseAlarms)],
  ] as const;
  return { ok: problems.length === 0, problems, figures: { ...figures }, rows };
}
