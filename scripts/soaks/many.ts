/** Many databases under one agent: written at random, most of them resting, the agent killed again and again. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { comparePages } from "../../test/support/compare.ts";
import { Program } from "../../test/support/apps/program.ts";
import { startTidemark, type RunningTidemark } from "../../test/support/tidemark-cli.ts";
import { mebibytes, say, seconds, type Outcome, type Scenario } from "./scenario.ts";

const MAIN = path.join(import.meta.dirname, "../../src/cli/main.ts");
const WRITER = path.join(import.meta.dirname, "../../test/support/apps/many-writer.ts");
const READY_MS = 600_000;
const IDLE_SECONDS = 10;
/** Until databases count as quiet, and the last of them were emptied. */
const SETTLE_MS = 20_000;

export const many: Scenario = {
  summary: "many databases written at random by several applications; `run` is killed (kill -9) on the way",
  options: {
    databases: { default: "1000", help: "how many" },
    "max-pinned": { default: "400", help: "maxPinned" },
    writers: { default: "2", help: "applications" },
    operations: { default: "3000", help: "commits of each application" },
    kills: { default: "3", help: "how often the agent is killed" },
    seed: { default: "1", help: "of the writes" },
    directory: { default: os.tmpdir(), help: "where to work" },
  },
  run: async (options) => {
    const directory = fs.mkdtempSync(path.join(options["directory"] ?? os.tmpdir(), "tidemark-soak-"));
    try {
      await using soak = new Many(directory, options);
      return await soak.run();
    } finally {
      fs.rmSync(directory, { recursive: true, force: true });
    }
  },
};

class Many implements AsyncDisposable {
  readonly #options: Readonly<Record<string, string>>;
  readonly #app: string;
  readonly #standby: string;
  readonly #config: string;
  readonly #startsMs: number[] = [];
  readonly #resources = new AsyncDisposableStack();
  #agent: RunningTidemark | undefined;

  constructor(directory: string, options: Readonly<Record<string, string>>) {
    this.#options = options;
    this.#app = path.join(directory, "app");
    this.#standby = path.join(directory, "standby");
    this.#config = path.join(directory, "tidemark.yml");
    fs.mkdirSync(this.#app);
    const pattern = JSON.stringify(path.join(this.#app, "*.db"));
    const lines = ["set: many", `databases: [${pattern}]`, `standby: ${this.#standby}`];
    fs.writeFileSync(this.#config, [...lines, `maxPinned: ${this.#number("max-pinned")}`].join("\n"));
  }

  async run(): Promise<Outcome> {
    const writers = Array.from({ length: this.#number("writers") }, (_, i) => this.#writer(i));
    for (let kill = 0; kill < this.#number("kills"); kill += 1) {
      await this.#start();
      await pause(1000 + 500 * kill);
      say(`kill -9 after ${this.#names().length} databases`);
      await this.#agent?.kill9();
    }
    await this.#start();
    await Promise.all(writers.map(async ({ exited }) => exited));
    const problems = writers.flatMap(({ errors }) => (errors === "" ? [] : [`an application: ${errors}`]));
    const beganMs = performance.now();
    execFileSync(process.execPath, [MAIN, "sync", "--applied", "--timeout", "10m", "-c", this.#config]);
    const syncMs = performance.now() - beganMs;
    const names = this.#names();
    const differing = names.filter((name) => comparePages(path.join(this.#app, name), path.join(this.#standby, name)));
    if (differing.length > 0) problems.push(`the standby differs in ${differing.join(", ")}`);
    return this.#outcome(problems, {
      databases: names.length,
      startsMs: this.#startsMs,
      syncMs,
      ...(await this.#idle()),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }

  #number(option: string): number {
    return Number(this.#options[option]);
  }

  #names(): string[] {
    return fs.readdirSync(this.#app).filter((name) => name.endsWith(".db"));
  }

  #writer(index: number): Program {
    const seed = String(this.#number("seed") * 1000 + index);
    const args = [this.#options["operations"] ?? "", seed, this.#app, this.#options["databases"] ?? ""];
    return this.#resources.use(new Program([process.execPath, WRITER, ...args]));
  }

  async #start(): Promise<void> {
    // The very first start needs something to capture.
    while (this.#names().length === 0) await pause(50);
    const beganMs = performance.now();
    this.#agent = this.#resources.use(startTidemark(["run", "-c", this.#config]));
    await this.#agent.waitReady(READY_MS);
    this.#startsMs.push(Math.round(performance.now() - beganMs));
    say(`ready after ${seconds(this.#startsMs.at(-1) ?? 0)}`);
  }

  /** What the agent costs while nobody writes. */
  async #idle(): Promise<{ idleShare: number; rssBytes: number; descriptors: number }> {
    const pid = this.#agent?.child.pid ?? 0;
    await pause(SETTLE_MS);
    const before = cpuMs(pid);
    await pause(IDLE_SECONDS * 1000);
    const idleShare = (cpuMs(pid) - before) / (IDLE_SECONDS * 1000);
    const rssKib = Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
    const descriptors = fs.readdirSync(`/proc/${pid}/fd`).length;
    await this.#agent?.stop();
    return { idleShare, rssBytes: rssKib * 1024, descriptors };
  }

  #outcome(
    problems: readonly string[],
    figures: {
      readonly databases: number;
      readonly startsMs: readonly number[];
      readonly syncMs: number;
      readonly idleShare: number;
      readonly rssBytes: number;
      readonly descriptors: number;
    },
  ): Outcome {
    const rows = [
      ["databases", String(figures.databases)],
      ["ready after", figures.startsMs.map(seconds).join(", ")],
      ["sync --applied at the end", seconds(figures.syncMs)],
      ["idle, of a core", `${(figures.idleShare * 100).toFixed(2)} %`],
      ["memory", mebibytes(figures.rssBytes)],
      ["open files", String(figures.descriptors)],
    ] as const;
    return { ok: problems.length === 0, problems, figures, rows };
  }
}

/** Of all its threads, in ticks of 10 ms. */
function cpuMs(pid: number): number {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
