import type { Command } from "commander";

import type { Cli } from "./cli.ts";
import { type AgentFlags, runAgent } from "./run-agent.ts";
import { setCommand } from "./set-options.ts";

export function replicaCommand(cli: Cli): Command {
  return setCommand({
    name: "replica",
    summary: "keep a hot standby from the log (on a standby)",
    description:
      "Applies the log to the standby and follows it, until it is stopped. Other processes may read the standby all along.",
    examples: [
      "tidemark replica --set app --standby /srv/standby --log nats://nats-1:4222",
      "tidemark replica -c /etc/tidemark/tidemark.yml --reseed",
    ],
  })
    .option("--reseed", "drop the standby's copies and build them from the last full copies in the log")
    .action((flags: AgentFlags) => runAgent(cli, "replica", flags));
}
