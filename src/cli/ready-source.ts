import fs from "node:fs";
import path from "node:path";

import type { Config } from "../config/config.ts";
import type { Settings } from "../config/load-config.ts";
import type { Missing } from "../restore/restore-missing.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { createAgentLogger } from "./agent-logger.ts";
import type { Cli } from "./cli.ts";
import { openHistory } from "./open-history.ts";
import type { ExecFlags } from "./run-with-application.ts";

type Source = Config & Settings;

/**
 * Before an application is started: its databases are there, or restored, or, where there is nothing to restore from and never was, to be
 * made by it. Whatever cannot be asked may hold them: then the application is not started.
 *
 * @throws DATABASE_MISSING, and what opening repositories and log throws
 */
export async function readySource(cli: Cli, config: Source, flags: ExecFlags): Promise<Source> {
  const { missingOf, restoreMissing } = await import("../restore/restore-missing.ts");
  const missing = missingOf(config);
  const [first] = missing.databases;
  if (!first) return config;
  if (!flags.restoreIfMissing) throw databaseMissing(first.path);
  const logger = await createAgentLogger(cli.environment, () => undefined);
  const held = await whatIsThere(cli, config);
  if (!held.log && !held.repositories) {
    logger.warn(
      { databases: missing.databases.map(({ name }) => name) },
      "there is nothing to restore from yet: the application begins with nothing",
    );
    return awaiting(config, missing);
  }
  // One that holds nothing need not be read.
  const options = { ...flags, repository: held.repositories ? flags.repository : undefined };
  await using opened = await openHistory(cli, {
    command: "run --restore-if-missing",
    options,
    configured: true,
    keys: true,
    long: true,
  });
  const { offset, at, names } = await restoreMissing({
    ...opened,
    config,
    missing,
    clock: cli.clock,
    signal: cli.signal,
  });
  logger.warn({ offset, at, names }, `restored what was not there, as of offset ${offset}, ${at}`);
  return awaiting(config, missingOf(config));
}

/** What the application makes itself is captured from then on. */
function awaiting(config: Source, { databases }: Missing): Source {
  const names = new Set(databases.map(({ name }) => name));
  for (const { path: file } of databases) fs.mkdirSync(path.dirname(file), { recursive: true });
  const marked = config.databases.map((one) => (names.has(one.name) ? { ...one, awaited: true as const } : one));
  return { ...config, databases: marked };
}

/** Every repository and the log must answer. */
async function whatIsThere(
  { clock, signal }: Cli,
  config: Source,
): Promise<{ readonly repositories: boolean; readonly log: boolean }> {
  const [{ openLog }, { readRepositories }] = await Promise.all([
    import("../compose.ts"),
    import("../compose/repositories.ts"),
  ]);
  let repositories = false;
  for (const repository of config.repositories) {
    try {
      await readRepositories(
        { ...config, repositories: [repository] },
        { clock, signal },
        async ({ bases, segments }) => {
          repositories ||= (await bases.list(signal)).length > 0 || (await segments.newest(signal)) !== undefined;
        },
      );
    } catch (error) {
      if (!hasCode(error, "REPOSITORY_EMPTY")) throw error;
    }
  }
  const { log: where, set, encryption, state } = config;
  if (!where) return { repositories, log: false };
  // As the agent does in a moment: one that is not there is made, and one that cannot be asked is not taken for empty.
  await using log = await openLog({ log: where, set, encryption, state, mode: "write" });
  return { repositories, log: (await log.bounds()).last > 0 };
}

function databaseMissing(file: string): TidemarkError {
  return new TidemarkError("DATABASE_MISSING", `${file} is not there, so the application is not started`, {
    hint: "With --restore-if-missing it is restored, or made by the application where there is nothing to restore from. Else correct its path, or make it.",
  });
}
