import type { Command } from "commander";

import { configError } from "../config/config-error.ts";
import { standbyState } from "../config/load-config.ts";
import { formatDuration } from "../config/units.ts";
import type { PromoteReport, PromoteRequest } from "../observe/agent-control.ts";
import { askAgent } from "../observe/control-client.ts";
import { hasCode } from "../runtime/errors.ts";
import { createAgentLogger } from "./agent-logger.ts";
import { type Cli, oneShot } from "./cli.ts";
import { agentConfig, durationOption, type SetOptions, setCommand, settingsFor } from "./set-options.ts";

/** For what comes after the standby has applied everything: seeding, hooks. */
const ANSWER_MS = 10 * 60 * 1000;

interface PromoteOptions extends SetOptions {
  readonly dryRun?: boolean;
  readonly force?: boolean;
  readonly newLog?: boolean;
  readonly fromRepository?: boolean;
  readonly timeout: number;
}

export function promoteCommand(cli: Cli): Command {
  return setCommand({
    name: "promote",
    summary: "make this host's standby the primary",
    description: [
      "Makes this host's standby the primary: it applies what the log holds, begins a new epoch in it, which fences the former primary, and captures its own copies from then on.",
      "Asks the running replica, which becomes the capturing agent and stays it. Without one the command does it itself; start `tidemark replica` afterwards.",
      "With a log that is gone for good, --new-log and --from-repository begin a new one, which goes on with its offsets; the replica is to be stopped for that. Nobody can tell then what else was committed.",
      "Refused (exit code 6) when the standby is behind the log or not verified, or another host was promoted within the last minute.",
    ].join("\n"),
    examples: [
      "tidemark promote -c tidemark.yml",
      "tidemark promote -c tidemark.yml --dry-run --json",
      "tidemark promote -c tidemark.yml --new-log --dry-run",
      "tidemark promote -c tidemark.yml --from-repository",
      "tidemark promote --set app --standby /srv/standby --log nats://nats-1:4222 --force",
    ],
  })
    .option("--dry-run", "say what would happen, and what would be lost; change nothing")
    .option("--force", "promote it as it is, whatever the log holds beyond it")
    .option("--new-log", "the log is gone for good: begin a new one with the standby as it is")
    .option(
      "--from-repository",
      "the log is gone for good: begin a new one with the newest point of the repository; the standby may be empty",
    )
    .option("--timeout <duration>", "how long the standby may take to apply what the log holds", durationOption, 60_000)
    .action((options: PromoteOptions) => oneShot(cli, () => promote(cli, options)));
}

async function promote(cli: Cli, options: PromoteOptions): Promise<void> {
  const { standby } = await settingsFor(cli, "client", options);
  if (standby === undefined)
    throw configError("tidemark promote needs the standby", "Give --standby DIR, or standby: in tidemark.yml.");
  const { force = false, dryRun = false, timeout: timeoutMs } = options;
  const request: PromoteRequest = { force, dryRun, timeoutMs };
  if (options.newLog || options.fromRepository) return promoteLost(cli, { standby, request, options });
  const asked = { method: "POST", path: "/promote", body: request, timeoutMs: timeoutMs + ANSWER_MS } as const;
  try {
    const report = (await askAgent(standbyState(standby), { ...asked, signal: cli.signal })) as PromoteReport;
    await tell(cli, { report, standby, options });
  } catch (error) {
    if (dryRun || !hasCode(error, "AGENT_NOT_RUNNING") || !error.message.startsWith("no agent answers")) throw error;
    await promoteHere(cli, { standby, request, options });
  }
}

interface Here {
  readonly standby: string;
  readonly request: PromoteRequest;
  readonly options: PromoteOptions;
}

async function promoteLost(cli: Cli, { standby, request, options }: Here): Promise<void> {
  const config = await agentConfig(cli, "replica", options);
  const { promoteWithNewLog } = await import("../compose/promote-new-log.ts");
  const logger = await createAgentLogger(cli.environment, () => undefined);
  const from = options.fromRepository ? "repository" : "standby";
  const onExamined = (newLog: NewLog): void => cli.note(newLogText(newLog));
  const agent = { config, logger, clock: cli.clock, signal: cli.signal };
  const report = await promoteWithNewLog(agent, { ...request, from, onExamined });
  await tell(cli, { report, standby, options });
  if (!report.dryRun) cli.note("no agent runs here: start `tidemark replica`, which captures from now on");
}

type NewLog = NonNullable<PromoteReport["newLog"]>;

function newLogText({ after, at, ageMs, source }: NewLog): string {
  return `the new log goes on behind offset ${after}, which ${source} holds, of ${at} (${formatDuration(ageMs)} ago): what was committed after it can be missing`;
}

/** With a replica of our own, which ends when it has become the primary. */
async function promoteHere(cli: Cli, { standby, request, options }: Here): Promise<void> {
  const config = await agentConfig(cli, "replica", options);
  const { promoteAlone } = await import("../compose/promote-alone.ts");
  const logger = await createAgentLogger(cli.environment, () => undefined);
  const report = await promoteAlone({ config, logger, clock: cli.clock, signal: cli.signal }, request);
  await tell(cli, { report, standby, options });
  cli.note("no agent runs here: start `tidemark replica`, which captures from now on");
}

async function tell(
  cli: Cli,
  { report, standby, options }: { report: PromoteReport } & Pick<Here, "standby" | "options">,
): Promise<void> {
  if (options.json) return cli.print(JSON.stringify(report));
  const { epoch, offset, durationMs, dryRun, already, hooks } = report;
  const what = dryRun ? "would be promoted" : already ? "is the primary already" : "promoted";
  await cli.print(`${what}: epoch ${epoch}, offset ${offset}; ${lossText(report)} (${formatDuration(durationMs)})`);
  for (const { command, ok, outcome } of hooks) if (!ok) await cli.print(`hook failed (${outcome}): ${command}`);
  if (!dryRun) await cli.print(`the application's databases and files are in ${standby} now`);
}

function lossText({ lost: { offsets, ms }, newLog }: PromoteReport): string {
  if (offsets === null)
    return newLog ? `commits after offset ${newLog.after} can be missing` : "what is lost is not known";
  return offsets === 0 ? "nothing of the log is lost" : `${offsets} events (${formatDuration(ms ?? 0)}) are lost`;
}
