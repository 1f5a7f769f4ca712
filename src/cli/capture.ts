import type { Command } from "commander";

import type { Cli } from "./cli.ts";
import { runAgent } from "./run-agent.ts";
import { type ExecFlags, runWithApplication, withExecOptions } from "./run-with-application.ts";
import { setCommand } from "./set-options.ts";

export function captureCommand(cli: Cli): Command {
  const command = setCommand({
    name: "capture",
    summary: "capture databases into the log (on the primary)",
    description:
      "Captures every commit of the databases into the log, until it is stopped. Waits for a log that is away.",
    examples: [
      "tidemark capture --db /srv/app/app.db --log nats://nats-1:4222,nats-2:4222",
      'tidemark capture -c /etc/tidemark/tidemark.yml --restore-if-missing --exec "node server.js"',
      "tidemark capture -c /etc/tidemark/tidemark.yml",
    ],
  })
    .option("--set-wal", "switch databases to WAL mode that are not in it")
    .option("--dry-run", "list what would be captured, and what would be left out and why; change nothing")
    .option("--accept-empty", "files that are gone at the start, and be it all of a tree, are meant to be gone")
    .option("--takeover", "take the log over from another writer that may still be alive");
  return withExecOptions(command).action((flags: ExecFlags) => {
    const { exec } = flags;
    return exec === undefined
      ? runAgent(cli, "capture", flags)
      : runWithApplication(cli, "capture", { ...flags, exec });
  });
}
