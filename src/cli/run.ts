import type { Command } from "commander";

import type { Cli } from "./cli.ts";
import { runAgent } from "./run-agent.ts";
import { type ExecFlags, runWithApplication, withExecOptions } from "./run-with-application.ts";
import { setCommand } from "./set-options.ts";

export function runCommand(cli: Cli): Command {
  const command = setCommand({
    name: "run",
    summary: "capture databases and keep a hot standby, in one process",
    description: [
      "Captures the databases into the log and keeps the standby hot, in one process, until it is stopped.",
      "Without --log the log is embedded, in DIR/.tidemark/log of the standby: put the standby on another disk than the databases, so that it outlives theirs.",
      "With --exec it starts an application, too, and ends with it: when it has ended, what it wrote last is handed in. When capture fails for good, the application is ended.",
      "When the standby fails for good, capture goes on; the exit code tells it at the end.",
    ].join("\n"),
    examples: [
      "tidemark run --db app.db --standby /mnt/standby",
      'tidemark run --db app.db --db "tenants/*.db" --standby /mnt/standby',
      'tidemark run --db /data/app.db --standby /mnt/standby --repository s3://backups/app --restore-if-missing --exec "node server.js"',
      "tidemark run -c /etc/tidemark/tidemark.yml",
    ],
  })
    .option("--set-wal", "switch databases to WAL mode that are not in it")
    .option("--dry-run", "list what would be captured, and what would be left out and why; change nothing")
    .option("--accept-empty", "files that are gone at the start, and be it all of a tree, are meant to be gone")
    .option("--takeover", "take the log over from another writer that may still be alive");
  return withExecOptions(command).action((flags: ExecFlags) => {
    const { exec } = flags;
    return exec === undefined ? runAgent(cli, "run", flags) : runWithApplication(cli, "run", { ...flags, exec });
  });
}
