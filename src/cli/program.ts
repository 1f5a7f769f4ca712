import { Command } from "commander";

import { baseCommand } from "./base.ts";
import { basesCommand } from "./bases.ts";
import { captureCommand } from "./capture.ts";
import { checkCommand } from "./check.ts";
import type { Cli } from "./cli.ts";
import { keyCommand } from "./key.ts";
import { logCommand } from "./log.ts";
import { markCommand } from "./mark.ts";
import { marksCommand } from "./marks.ts";
import { replicaCommand } from "./replica.ts";
import { restoreCommand } from "./restore.ts";
import { runCommand } from "./run.ts";
import { statusCommand } from "./status.ts";
import { syncCommand } from "./sync.ts";
import { verifyCommand } from "./verify.ts";
import { tidemarkVersion } from "./tidemark-version.ts";

const EXIT_CODES = `
Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 log or agent unreachable, 4 verification failed,
5 fenced, 6 refused, 130 interrupted. TIDEMARK_LOG sets the log level of agents: debug, info, warn, error, silent.

Example:
  tidemark run --db app.db --standby /mnt/standby
  tidemark restore --standby /mnt/standby --target /tmp/app --to 2026-01-31T17:45:00Z`;

/** The command line. What is wrong with its use is thrown as a CommanderError. */
export function createProgram(cli: Cli): Command {
  const program = new Command("tidemark")
    .description(
      "Replicates live SQLite databases to a hot standby through a log, and restores them to any moment of it.",
    )
    .version(tidemarkVersion(), "-V, --version")
    .helpCommand("help [command]", "show the help of a command")
    .addHelpText("after", EXIT_CODES);
  const commands = [
    runCommand,
    captureCommand,
    replicaCommand,
    restoreCommand,
    markCommand,
    marksCommand,
    syncCommand,
    basesCommand,
    logCommand,
    statusCommand,
    checkCommand,
    verifyCommand,
    baseCommand,
    keyCommand,
  ];
  for (const create of commands) program.addCommand(create(cli));
  for (const command of [program, ...program.commands, ...program.commands.flatMap(({ commands: inner }) => inner)]) {
    command.exitOverride().configureOutput({ outputError: () => undefined });
  }
  return program;
}
