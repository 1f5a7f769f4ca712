import fs from "node:fs";
import path from "node:path";

import type { LogEvent } from "../../../src/event/kinds.ts";
import { sleep } from "../../../src/runtime/clock.ts";
import { Random } from "../random.ts";
import { restoreHere } from "../restore-here.ts";
import { runTidemark } from "../tidemark-cli.ts";
import { within } from "../wait.ts";
import { type Action, drawSchedule, FAULT_NAMES, type FaultName, runFault } from "./faults.ts";
import { TREE } from "./host.ts";
import { logPoints } from "./log-points.ts";
import { copyOf, finalCopies, settle } from "./settle.ts";
import { type Evidence, type Restored, type Violation, violationsOf } from "./verdict.ts";
import { type LogServers, World } from "./world.ts";

const ACTIONS = { least: 5, most: 9 };
const SPAN_MS = 5000;
const RESTORES = 3;

/** All that follows from a seed. */
export interface Plan {
  readonly seed: number;
  readonly servers: 1 | 3;
  readonly actions: readonly Action[];
}

export interface RunResult {
  readonly plan: Plan;
  readonly violations: readonly Violation[];
  readonly durationMs: number;
  /** Commits that returned, confirmations, states seen, records, epochs, restores. */
  readonly figures: Readonly<Record<string, number>>;
  /** With what agents ended that nobody stopped, fenced or killed. */
  readonly ends: readonly string[];
  /** With everything that is left of it. */
  readonly directory: string;
}

export function planOf(seed: number, only: readonly FaultName[] = FAULT_NAMES): Plan {
  const random = new Random("torture", seed);
  const servers = random.next() < 0.25 ? 3 : 1;
  const actions = random.integer(ACTIONS.least, ACTIONS.most);
  return { seed, servers, actions: drawSchedule({ random, only, actions, spanMs: SPAN_MS }) };
}

export interface RunOptions {
  readonly plan: Plan;
  readonly servers: LogServers;
  readonly directory: string;
  readonly limitMs: number;
}

/** Everything from an empty host to the verdict. Never throws: what went wrong is a violation. */
export async function tortureOnce(options: RunOptions): Promise<RunResult> {
  const { plan, directory, limitMs } = options;
  const began = performance.now();
  fs.mkdirSync(directory, { recursive: true });
  const gathering = gather(options);
  const evidence = await within("the run", limitMs, gathering).catch(nothing);
  // What is late ends before another one begins.
  await gathering.catch(() => undefined);
  const violations = violationsOf(evidence);
  const kept = { plan, violations, evidence };
  fs.writeFileSync(path.join(directory, "evidence.json"), JSON.stringify(kept, null, 1));
  const durationMs = Math.round(performance.now() - began);
  return { plan, violations, durationMs, figures: figuresOf(evidence), ends: evidence.ends, directory };
}

function nothing(error: unknown): Evidence {
  return { journal: [], syncs: [], seen: [], log: [], restores: [], final: [], stuck: [said(error)], ends: [] };
}

function said(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message} (${said(error.cause)})`;
}

async function gather({ plan, servers, directory }: RunOptions): Promise<Evidence> {
  const smallDisks = plan.actions.some(({ fault }) => fault === "disk");
  await using world = await World.start({ servers, smallDisks, directory });
  const random = new Random("restores", plan.seed);
  await carryOut(world, plan.actions);
  const stuck: string[] = [];
  await settle(world).catch((error: unknown) => stuck.push(said(error)));
  await world.stopLooking();
  world.tell("settled");
  const events = await world.active.deployment.events();
  const log = logPoints(events);
  const final = stuck.length > 0 ? [] : finalCopies(world);
  const restores = stuck.length > 0 ? [] : await restored(world, events, random);
  world.keepLogs();
  world.tell("looked at");
  return { ...world.told(), log, final, restores, stuck };
}

async function carryOut(world: World, actions: readonly Action[]): Promise<void> {
  await Promise.all(
    actions.map(async (action) => {
      await sleep(action.atMs);
      await runFault(world, action);
    }),
  );
}

async function restored(world: World, events: readonly LogEvent[], random: Random): Promise<Restored[]> {
  const { deployment } = world.active;
  const first = events.findIndex(({ body }) => body.kind === "sqlite.commit");
  const restores: Restored[] = [];
  for (let count = 0; count < RESTORES; count += 1) {
    const event = events[random.integer(first, events.length - 1)];
    if (!event) throw new Error("the log is empty");
    const { offset } = event;
    const copy = await restoreHere(deployment, { kind: "offset", offset }, (database) => {
      const tree = path.join(path.dirname(database), TREE);
      const { problems, ...rest } = copyOf("log", database, tree);
      // Between a commit and the removals after it, or the files before it, rows and files need not agree.
      return { ...rest, problems: event.consistent ? problems : [] };
    });
    restores.push({ ...copy, offset });
  }
  return [...restores, ...(await fromRepository(world))];
}

/** What the third host archived, unless it became the primary before there was anything. */
async function fromRepository(world: World): Promise<Restored[]> {
  const archivist = world.hosts.find(({ name }) => name === "c");
  await archivist?.stopAgent();
  const repository = path.join(world.directory, "repository");
  const target = path.join(world.directory, "restored");
  const asked = ["restore", "--repository", repository, "--target", target, "--to", "latest", "--json"];
  const { code, stdout, stderr } = await runTidemark(asked, { timeoutMs: 30_000 });
  if (code === 0) {
    const { offset } = JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}") as { offset: number };
    const copy = copyOf("repository", path.join(target, "app.db"), path.join(target, TREE));
    return [{ ...copy, offset }];
  }
  const { code: why } = JSON.parse(stderr.trim().split("\n").at(-1) ?? "{}") as { code?: string };
  world.tell(`nothing restored from the repository: ${stderr}`);
  const madeBase = archivist?.agents.some(({ output }) => output.stderr.includes(": base at offset "));
  if (why === "NOTHING_TO_RESTORE" || (why === "BASE_NOT_FOUND" && !madeBase)) return [];
  return [{ place: "repository", offset: 0, chain: "", problems: [stderr] }];
}

function figuresOf({ journal, syncs, seen, log, restores, ends }: Evidence): Record<string, number> {
  return {
    commits: journal.filter(({ at }) => at === "done").length,
    confirmed: syncs.length,
    seen: seen.length,
    records: log.length,
    epochs: log.filter(({ begins }) => begins).length,
    restores: restores.length,
    ends: ends.length,
  };
}
