import { Command } from "commander";

import type { Cli } from "./cli.ts";
import { tidemarkVersion } from "./tidemark-version.ts";

const VERSION_FLAGS: readonly string[] = ["-V", "--version"];

type CreateCommand = (cli: Cli) => Command;

/** In the order of the help. Loaded when asked for: a command needs a part of the program, and most are done in a moment. */
const COMMANDS: Readonly<Record<string, () => Promise<CreateCommand>>> = {
  run: async () => (await import("./run.ts")).runCommand,
  capture: async () => (await import("./capture.ts")).captureCommand,
  replica: async () => (await import("./replica.ts")).replicaCommand,
  restore: async () => (await import("./restore.ts")).restoreCommand,
  promote: async () => (await import("./promote.ts")).promoteCommand,
  switchover: async () => (await import("./switchover.ts")).switchoverCommand,
  rejoin: async () => (await import("./rejoin.ts")).rejoinCommand,
  history: async () => (await import("./history.ts")).historyCommand,
  mark: async () => (await import("./mark.ts")).markCommand,
  marks: async () => (await import("./marks.ts")).marksCommand,
  sync: async () => (await import("./sync.ts")).syncCommand,
  bases: async () => (await import("./bases.ts")).basesCommand,
  log: async () => (await import("./log.ts")).logCommand,
  status: async () => (await import("./status.ts")).statusCommand,
  check: async () => (await import("./check.ts")).checkCommand,
  verify: async () => (await import("./verify.ts")).verifyCommand,
  expire: async () => (await import("./expire.ts")).expireCommand,
  base: async () => (await import("./base.ts")).baseCommand,
  key: async () => (await import("./key.ts")).keyCommand,
};

const EXIT_CODES = `
Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 log or agent unreachable, 4 verification failed,
5 fenced, 6 refused, 130 interrupted. TIDEMARK_LOG sets the log level of agents: debug, info, warn, error, silent.

Example:
  tidemark run --db app.db --standby /mnt/standby
  tidemark restore --standby /mnt/standby --target /tmp/app --to 2026-01-31T17:45:00Z`;

/** The command line, as far as `args` need it. What is wrong with its use is thrown as a CommanderError. */
export async function createProgram(cli: Cli, args: readonly string[]): Promise<Command> {
  const program = new Command("tidemark")
    .description(
      "Replicates live SQLite databases to a hot standby through a log, and restores them to any moment of it.",
    )
    .version(tidemarkVersion(), VERSION_FLAGS.join(", "))
    .helpCommand("help [command]", "show the help of a command")
    .addHelpText("after", EXIT_CODES);
  for (const load of loadersFor(args)) program.addCommand((await load())(cli));
  for (const command of [program, ...program.commands, ...program.commands.flatMap(({ commands: inner }) => inner)]) {
    command.exitOverride().configureOutput({ outputError: () => undefined });
  }
  return program;
}

/** The command that is named first, or all of them: for help, and to say what a wrong name is like. */
function loadersFor([first = ""]: readonly string[]): readonly (() => Promise<CreateCommand>)[] {
  if (VERSION_FLAGS.includes(first)) return [];
  const named = Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined;
  return named ? [named] : Object.values(COMMANDS);
}
