import type { Command } from "commander";

import { configError } from "../config/config-error.ts";
import { createAgentLogger } from "./agent-logger.ts";
import { type Cli, oneShot } from "./cli.ts";
import { progressLine } from "./progress-line.ts";
import { rejoinText } from "./rejoin-text.ts";
import { agentConfig, type SetOptions, setCommand, settingsFor } from "./set-options.ts";

interface RejoinCommandOptions extends SetOptions {
  readonly dryRun?: boolean;
  readonly force?: boolean;
}

export function rejoinCommand(cli: Cli): Command {
  return setCommand({
    name: "rejoin",
    summary: "make a standby of a former primary (on that host)",
    description: [
      "Makes a standby of a host that was the primary until another one was promoted. What it had committed and the log has not is saved first, as SQL that can be read and run.",
      "Then its databases and files are brought to the last common offset, which takes the pages that differ only, and moved to the standby's directory; the fence is lifted at last.",
      "The application and the agent are stopped before. Killed at any moment it goes on when it is run again. Start `tidemark replica` afterwards.",
      "Refused (exit code 6) when this host is the primary, or a process has one of its databases open.",
    ].join("\n"),
    examples: [
      "tidemark rejoin -c tidemark.yml --dry-run",
      "tidemark rejoin -c tidemark.yml --json",
      "tidemark rejoin --set app --state /var/lib/tidemark/app --standby /srv/standby --log nats://nats-1:4222",
    ],
  })
    .option("--dry-run", "say what diverged and what would be done; change nothing")
    .option(
      "--force",
      "where the log tells no common state any more: keep the old databases whole, and have the standby built anew",
    )
    .action((options: RejoinCommandOptions) => oneShot(cli, () => rejoin(cli, options)));
}

async function rejoin(cli: Cli, options: RejoinCommandOptions): Promise<void> {
  const { standby, state } = await settingsFor(cli, "client", options);
  if (standby === undefined)
    throw configError(
      "tidemark rejoin needs a directory for the standby",
      "Give --standby DIR, or standby: in tidemark.yml.",
    );
  const config = await agentConfig(cli, "replica", options);
  const { rejoinHost } = await import("../compose/rejoin.ts");
  using progress = progressLine(() => cli.clock.monotonic());
  const logger = await createAgentLogger(cli.environment, () => progress.clear());
  const report = await rejoinHost({
    config: { ...config, state: state ?? config.state },
    logger,
    clock: cli.clock,
    signal: cli.signal,
    force: options.force ?? false,
    dryRun: options.dryRun ?? false,
    onProgress: (shown) => progress.show(shown),
  });
  progress.clear();
  if (options.json) return cli.print(JSON.stringify(report));
  for (const line of rejoinText(report, standby)) await cli.print(line);
}
