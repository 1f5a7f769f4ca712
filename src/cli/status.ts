import type { Command } from "commander";

import type { Settings } from "../config/load-config.ts";
import { readHead } from "../observe/agent-control.ts";
import { agentNotRunning, askAgent } from "../observe/control-client.ts";
import { buildStatusReport, mergeReports, type StatusReport } from "../observe/status-report.ts";
import { EXIT, hasCode } from "../runtime/errors.ts";
import { agentPlaces } from "./ask-agents.ts";
import { type Cli, oneShot } from "./cli.ts";
import { openLogToRead } from "./open-log.ts";
import { type SetOptions, setCommand, settingsFor } from "./set-options.ts";
import { statusText } from "./status-text.ts";

const ANSWER_MS = 5000;

export function statusCommand(cli: Cli): Command {
  return setCommand({
    name: "status",
    summary: "where everything stands",
    description:
      "Shows log, capture, standby and the data that would be lost now, as the agents on this host tell it; without them, what the log tells.",
    examples: ["tidemark status --standby /mnt/standby", "tidemark status --json -c tidemark.yml"],
  }).action((options: SetOptions) => oneShot(cli, () => status(cli, options)));
}

async function status(cli: Cli, options: SetOptions): Promise<void> {
  const settings = await settingsFor(cli, "client", options);
  const report = (await reportOfAgents(settings, cli.signal)) ?? (await fromLog(cli, settings));
  if (report.fence) cli.exitCode = EXIT.fenced;
  if (options.json) return cli.print(JSON.stringify(report));
  for (const line of statusText(report)) await cli.print(line);
}

/** What the agents of this host tell; undefined: none runs. */
export async function reportOfAgents(
  settings: Pick<Settings, "state" | "standby">,
  signal: AbortSignal,
): Promise<StatusReport | undefined> {
  const reports: StatusReport[] = [];
  for (const place of agentPlaces(settings)) {
    try {
      const answer = await askAgent(place, { method: "GET", path: "/status", timeoutMs: ANSWER_MS, signal });
      const report = answer as StatusReport;
      // `run` answers at two places: one process is told once.
      if (!reports.some(({ agents }) => agents[0]?.pid === report.agents[0]?.pid)) reports.push(report);
    } catch (error) {
      if (!hasCode(error, "AGENT_NOT_RUNNING")) throw error;
    }
  }
  return mergeReports(reports);
}

/** No agent runs on this host: the log still knows how far it is. */
async function fromLog(cli: Cli, settings: Settings): Promise<StatusReport> {
  if (settings.log === undefined) throw agentNotRunning(agentPlaces(settings));
  await using log = await openLogToRead("status", settings);
  const head = await readHead(log);
  return buildStatusReport({
    set: settings.set,
    objectiveMs: settings.objectives.rpoMs,
    nowMs: cli.clock.now(),
    ...head,
    agents: [],
  });
}
