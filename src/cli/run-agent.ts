import { setFlagsFromString } from "node:v8";

import type { Logger } from "pino";

import type { RunningAgents } from "../compose/start-agents.ts";
import type { Config } from "../config/config.ts";
import type { Settings } from "../config/load-config.ts";
import type { AgentPart } from "../observe/status-report.ts";
import { createAgentLogger } from "./agent-logger.ts";
import { type Cli, oneShot } from "./cli.ts";
import { showCopies } from "./copy-progress.ts";
import { dryRun } from "./dry-run.ts";
import { locationOf, restoreHint } from "./restore-hint.ts";
import { progressLine } from "./progress-line.ts";
import { agentConfig, type SetOptions } from "./set-options.ts";
import { tidemarkVersion } from "./tidemark-version.ts";

export interface AgentFlags extends SetOptions {
  readonly takeover?: boolean;
  readonly dryRun?: boolean;
  readonly reseed?: boolean;
  readonly acceptEmpty?: boolean;
}

export interface BegunAgents {
  readonly agents: RunningAgents;
  readonly logger: Logger;
}

/**
 * An agent's heap is collected when it has grown by so much, and not when it has doubled or more: memory is the application's.
 * With 500,000 files 100 MB less; a restore takes an eighth longer with it.
 */
const HEAP_GROWS_PERCENT = 60;

/** What run, capture and replica have in common: start, say when ready, work until a signal or for as long as it goes. */
export async function runAgent(cli: Cli, role: AgentPart["role"], flags: AgentFlags): Promise<void> {
  const config = await agentConfig(cli, role, flags);
  if (flags.dryRun) return oneShot(cli, async () => dryRun(cli, config, flags.json === true));
  cli.longRunning = true;
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWS_PERCENT}`);
  const { agents, logger } = await beginAgents(cli, role, { config, flags, signal: cli.signal });
  await agents.done;
  logger.info("stopped");
}

interface Begin {
  readonly config: Config & Settings;
  readonly flags: AgentFlags;
  /** Ends the agents. */
  readonly signal: AbortSignal;
}

/** Says when they are ready, and what they copy until then. */
export async function beginAgents(
  cli: Cli,
  role: AgentPart["role"],
  { config, flags, signal }: Begin,
): Promise<BegunAgents> {
  const progress = progressLine(() => cli.clock.monotonic());
  const logger = await createAgentLogger(cli.environment, progress.clear);
  const { startAgents } = await import("../compose/start-agents.ts");
  const { takeover = false, reseed = false, acceptEmpty = false } = flags;
  logger.info(
    { set: config.set, log: config.log && locationOf(config.log), file: config.file },
    `tidemark ${tidemarkVersion()} ${role}`,
  );
  const { clock } = cli;
  const agents = await startAgents({ role, config, logger, clock, signal, takeover, reseed, acceptEmpty });
  const restore = restoreHint({ ...config, file: saysEverything(flags) ? config.file : undefined });
  void showCopies(agents, progress);
  agents.ready.then(
    () => cli.print(flags.json ? readyJson(role, config, restore) : readyText(role, config, restore)),
    () => undefined,
  );
  agents.done.catch(() => undefined).finally(progress.clear);
  return { agents, logger };
}

/** Whether the file alone says what this agent works on. */
function saysEverything({ set, db, files, standby, log }: AgentFlags): boolean {
  return [set, db, files, standby, log].every((flag) => flag === undefined);
}

function readyText(role: AgentPart["role"], config: Config & Settings, restore: string): string {
  const { databases, trees } = config;
  const names = [...databases, ...trees].map(({ name }) => name);
  const shown = names.length <= 3 ? names.join(", ") : countText(databases.length, trees.length);
  const log = config.log ? locationOf(config.log) : "";
  switch (role) {
    case "run":
      return `ready: ${shown} live on ${config.standby ?? ""}; restore with: ${restore}`;
    case "capture":
      return `ready: ${shown} captured into ${log}, set ${config.set}; restore with: ${restore}`;
    case "replica":
      return `ready: set ${config.set} live on ${config.standby ?? ""}, from ${log}`;
    default:
      return role satisfies never;
  }
}

function countText(databases: number, trees: number): string {
  if (trees === 0) return `${databases} databases`;
  return `${databases} ${databases === 1 ? "database" : "databases"} and ${trees} file ${trees === 1 ? "tree" : "trees"}`;
}

function readyJson(role: AgentPart["role"], config: Config & Settings, restore: string): string {
  const { set, standby, log } = config;
  return JSON.stringify({
    ready: true,
    role,
    set,
    databases: config.databases.map(({ name, path }) => ({ path, name })),
    files: config.trees.map(({ name, path }) => ({ path, name })),
    standby: standby ?? null,
    log: log ? locationOf(log) : null,
    restore,
  });
}
