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
  readonly timeout: number;
}

export function promoteCommand(cli: Cli): Command {
  return setCommand({
    name: "promote",
    summary: "make this host's standby the primary",
    description: [
      "Makes this host's standby the primary: it applies what the log holds, begins a new epoch in it, which fences the former primary, and captures its own copies from then on.",
      "Asks the running replica, which becomes the capturing agent and stays it. Without one the command does it itself; start `tidemark replica` afterwards.",
      "Refused (exit code 6) when the standby is behind the log or not verified, or another host was promoted within the last minute.",
    ].join("\n"),
    examples: [
      "tidemark promote -c tidemark.yml",
      "tidemark promote -c tidemark.yml --dry-run --json",
      "tidemark promote --set app --standby /srv/standby --log nats://nats-1:4222 --force",
    ],
  })
    .option("--dry-run", "say what would happen, and what would be lost; change nothing")
    .option("--force", "promote it as it is, whatever the log holds beyond it")
    .option("--timeout <duration>", "how long the standby may take to apply what the log holds", durationOption, 60_000)
    .action((options: PromoteOptions) => oneShot(cli, () => promote(cli, options)));
}

async function promote(cli: Cli, options: PromoteOptions): Promise<void> {
  const { standby } = await settingsFor(cli, "client", options);
  if (standby === undefined)
    throw configError("tidemark promote needs the standby", "Give --standby DIR, or standby: in tidemark.yml.");
  const { force = false, dryRun = false, timeout: timeoutMs } = options;
  const request: PromoteRequest = { force, dryRun, timeoutMs };
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
  const { epoch, offset, lost, durationMs, dryRun, already, hooks } = report;
  const what = dryRun ? "would be promoted" : already ? "is the primary already" : "promoted";
  const loss =
    lost.offsets === 0 ? "nothing of the log is lost" : `${lost.offsets} events (${formatDuration(lost.ms)}) are lost`;
  await cli.print(`${what}: epoch ${epoch}, offset ${offset}; ${loss} (${formatDuration(durationMs)})`);
  for (const { command, ok, outcome } of hooks) if (!ok) await cli.print(`hook failed (${outcome}): ${command}`);
  if (!dryRun) await cli.print(`the application's databases and files are in ${standby} now`);
}
