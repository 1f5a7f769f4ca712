/** Tortures a set: see `scripts/torture --help`. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import { FAULT_NAMES, type FaultName, FAULTS } from "../test/support/torture/faults.ts";
import { type Plan, planOf, type RunResult, tortureOnce } from "../test/support/torture/run.ts";
import { LogServers } from "../test/support/torture/world.ts";

const OPTIONS = {
  runs: { type: "string", default: "1" },
  seed: { type: "string", default: "1" },
  only: { type: "string", multiple: true, default: [] as string[] },
  jobs: { type: "string", default: "1" },
  minutes: { type: "string", default: "" },
  limit: { type: "string", default: "120" },
  shrink: { type: "string", default: "6" },
  keep: { type: "string", default: path.join(os.tmpdir(), "tidemark-torture") },
  all: { type: "boolean", default: false },
  json: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
} as const;

const HELP = `Usage: scripts/torture [--runs N] [--seed S] [--only FAULT]…

Three hosts with a log between them: a primary whose application writes rows and files, two standbys, one of which keeps a
repository. Faults and commands at random moments; then everything must come right by itself and by the documented commands,
and no promise may have been broken meanwhile. Run i has the seed S + i; a quarter of the runs has three NATS servers.

  --runs N         how many                                             (1)
  --seed S         of the first                                         (1)
  --only FAULT     nothing but this; can be given more than once
  --jobs N         so many at once: a run mostly waits                  (1)
  --minutes N      begin no further run after so long
  --limit SECONDS  a run that takes longer has failed                   (120)
  --shrink N       tries to make a failing schedule smaller; 0: none    (6)
  --keep DIR       evidence of runs that failed                         (${OPTIONS.keep.default})
  --all            evidence of the others as well
  --json           one line of JSON for each run, and one for all

Faults:
${Object.entries(FAULTS)
  .map(([name, { summary }]) => `  ${name.padEnd(16)} ${summary}`)
  .join("\n")}

Ends with 0 when no run broke a promise, with 1 otherwise, with 2 when it was asked for what it does not know.
`;

interface Asked {
  readonly limitMs: number;
  readonly keep: string;
  readonly tries: number;
  readonly all: boolean;
  readonly json: boolean;
}

class Torturer implements AsyncDisposable {
  readonly #asked: Asked;
  readonly #servers = new Map<1 | 3, Promise<LogServers>>();
  #directories = 0;

  constructor(asked: Asked) {
    this.#asked = asked;
  }

  /** With what is left of its faults when it failed. */
  async run(plan: Plan): Promise<RunResult> {
    const result = await this.#once(plan);
    this.#tell(result);
    if (result.violations.length === 0) return result;
    const smallest = await this.#shrink(result);
    if (smallest !== result) this.#tell(smallest);
    return result;
  }

  /** Leaves a directory behind when it failed. */
  async #once(plan: Plan): Promise<RunResult> {
    this.#directories += 1;
    const directory = path.join(this.#asked.keep, `seed-${plan.seed}-${process.pid}-${this.#directories}`);
    const servers = this.#servers.get(plan.servers) ?? LogServers.start(plan.servers);
    this.#servers.set(plan.servers, servers);
    const result = await tortureOnce({ plan, servers: await servers, directory, limitMs: this.#asked.limitMs });
    if (result.violations.length === 0 && !this.#asked.all) fs.rmSync(directory, { recursive: true });
    return result;
  }

  /** Takes away one fault after the other as long as what is left still fails. */
  async #shrink(failed: RunResult): Promise<RunResult> {
    let smallest = failed;
    let tries = this.#asked.tries;
    for (let at = 0; at < smallest.plan.actions.length && tries > 0; tries -= 1) {
      const actions = smallest.plan.actions.toSpliced(at, 1);
      const result = await this.#once({ ...smallest.plan, actions });
      const same = result.violations.some(({ kind }) => failed.violations.some((one) => one.kind === kind));
      if (same) smallest = result;
      else at += 1;
    }
    return smallest;
  }

  #tell(result: RunResult): void {
    const { plan, violations, durationMs, figures, ends, directory } = result;
    const { seed, servers, actions } = plan;
    const ok = violations.length === 0;
    const line = { seed, servers, ok, faults: actions.map(({ fault }) => fault), ...figures, durationMs };
    if (this.#asked.json) return print(JSON.stringify(ok ? line : { ...line, violations, ends, directory }));
    const what = `seed ${seed}, ${servers} ${servers === 1 ? "server" : "servers"}, ${(durationMs / 1000).toFixed(1)} s`;
    print(`${ok ? "ok  " : "FAIL"} ${what}: ${line.faults.join(", ")}  ${JSON.stringify(figures)}`);
    for (const end of ends) print(`  ended: ${end.slice(0, 300)}`);
    for (const { kind, text } of violations) print(`  ${kind}: ${text.slice(0, 1000)}`);
    if (!ok) print(`  evidence: ${directory}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const servers of this.#servers.values()) await (await servers)[Symbol.asyncDispose]();
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) {
    print(HELP);
    return 0;
  }
  const unknown = values.only.filter((name) => !FAULT_NAMES.includes(name as FaultName));
  if (unknown.length > 0) {
    process.stderr.write(`unknown fault: ${unknown.join(", ")}. --help lists those there are.\n`);
    return 2;
  }
  const only = values.only.length > 0 ? (values.only as FaultName[]) : FAULT_NAMES;
  const { json, keep, all } = values;
  const asked = { json, keep, all, limitMs: Number(values.limit) * 1000, tries: Number(values.shrink) };
  const untilMs = values.minutes === "" ? Infinity : performance.now() + Number(values.minutes) * 60_000;
  const first = Number(values.seed);
  const seeds = Array.from({ length: Number(values.runs) }, (_, run) => first + run);
  const failed: number[] = [];
  const sums: Record<string, number> = { runs: 0 };
  const work = async (): Promise<void> => {
    await using torturer = new Torturer(asked);
    for (let seed = seeds.shift(); seed !== undefined && performance.now() < untilMs; seed = seeds.shift()) {
      const result = await torturer.run(planOf(seed, only));
      for (const [name, count] of Object.entries({ runs: 1, ...result.figures }))
        sums[name] = (sums[name] ?? 0) + count;
      if (result.violations.length > 0) failed.push(seed);
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, work));
  print(json ? JSON.stringify({ ...sums, failed }) : `${JSON.stringify(sums)}, failed: ${failed.join(" ") || "none"}`);
  return failed.length === 0 ? 0 : 1;
}

process.exitCode = await main();
