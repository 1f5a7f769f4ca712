import { type Command, Option } from "commander";
import path from "node:path";

import type { TablesWanted } from "../restore/extract-tables.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { type Cli, oneShot } from "./cli.ts";
import { openHistory, type OpenedHistory } from "./open-history.ts";
import { progressLine } from "./progress-line.ts";
import { pointsText } from "./points-text.ts";
import { restoreText } from "./restore-text.ts";
import { collect, type HistoryOptions, setCommand } from "./set-options.ts";

interface RestoreOptions extends HistoryOptions {
  readonly target?: string;
  readonly list?: boolean;
  readonly to: string;
  readonly database?: readonly string[];
  readonly path?: readonly string[];
  readonly table?: readonly string[];
  readonly format: "db" | "sql";
  readonly consistent?: boolean;
  readonly dryRun?: boolean;
  readonly force?: boolean;
  readonly check: "full" | "quick";
}

export function restoreCommand(cli: Cli): Command {
  const command = setCommand({
    name: "restore",
    repository: true,
    summary: "build databases and files as they were at a moment, into a directory",
    description:
      "Builds databases and file trees as they were at a moment from a repository, the log, or both, into an empty directory, and verifies them (databases: checksum, integrity_check, foreign_key_check; files: SHA-256). Needs no agent.",
    examples: [
      "tidemark restore --standby /mnt/standby --target /tmp/app",
      "tidemark restore --standby /mnt/standby --target /tmp/app --to 2026-01-31T17:45:00+01:00",
      "tidemark restore -c tidemark.yml --target /tmp/app --to mark:before-upgrade --database app.db",
      "tidemark restore --standby /mnt/standby --target /tmp/lost --path 'uploads/2026/**/*.pdf' --to 2026-01-31T17:45:00Z",
      "tidemark restore --standby /mnt/standby --target /tmp/orders --table orders --format sql --to 2026-01-31T17:45:00Z",
      "tidemark restore --repository /mnt/backup --list",
      "tidemark restore --repository /mnt/backup --target /tmp/app --to 2026-01-31T17:45:00Z",
      "tidemark restore --log nats://nats-1:4222 --set app --target /tmp/app --to 81234 --dry-run",
    ],
  })
    .option("--target <dir>", "where to; must be empty or not there yet")
    .option("--to <moment>", "latest, a time (RFC 3339 with zone), an offset, or mark:NAME", "latest")
    .option("--database <name>", "only this database; repeat it for several", collect)
    .option("--path <glob>", "only these files and directories of trees, as TREE/PATH; repeat it for several", collect)
    .option("--table <name>", "only this table of a database, as a database of its own; repeat it for several", collect)
    .addOption(new Option("--format <how>", "what --table makes").choices(["db", "sql"]).default("db"))
    .option("--consistent", "the nearest moment before it at which databases and files are known to fit")
    .option("--list", "only tell which moments can be restored")
    .option("--dry-run", "only tell what would be done")
    .option("--force", "replace what is in the target")
    .addOption(new Option("--check <how>", "how thoroughly to verify").choices(["full", "quick"]).default("full"));
  return command.action((options: RestoreOptions) => oneShot(cli, () => restoreTo(cli, options)));
}

async function restoreTo(cli: Cli, options: RestoreOptions): Promise<void> {
  const [{ restore }, { parseRestoreTarget }] = await Promise.all([
    import("../restore/restore.ts"),
    import("../restore/restore-target.ts"),
  ]);
  if (options.list) return listPoints(cli, options);
  const directory = targetDirectory(cli, options.target);
  const target = parseRestoreTarget(options.to);
  const long = options.dryRun !== true;
  await using opened = await openHistory(cli, { command: "restore", options, configured: true, keys: true, long });
  const { history, archive } = opened;
  using progress = progressLine(cli.clock.monotonic);
  const report = await restore({
    history,
    archive,
    target,
    directory,
    databases: options.database,
    paths: options.path,
    tables: tablesOf(options),
    consistent: options.consistent,
    check: options.check,
    force: options.force ?? false,
    dryRun: options.dryRun ?? false,
    clock: cli.clock,
    signal: cli.signal,
    onProgress: progress.show,
  });
  progress.clear();
  if (options.json) return cli.print(JSON.stringify({ ...report, ...leftOut(opened) }));
  for (const line of restoreText(report)) await cli.print(line);
}

/** What a result from repositories alone may lack. */
function leftOut({ withoutLog }: OpenedHistory): { withoutLog?: string } {
  return withoutLog ? { withoutLog: `${withoutLog.code}: ${withoutLog.message}` } : {};
}

async function listPoints(cli: Cli, options: RestoreOptions): Promise<void> {
  await using opened = await openHistory(cli, { command: "restore --list", options, configured: true, keys: false });
  const { restorePoints } = await import("../restore/restore-points.ts");
  const points = await restorePoints(opened.history, opened.archive);
  if (options.json) return cli.print(JSON.stringify({ ...points, ...leftOut(opened) }));
  for (const line of pointsText(points)) await cli.print(line);
}

function tablesOf({ table: names, path: paths, format }: RestoreOptions): TablesWanted | undefined {
  if (names === undefined) return undefined;
  if (paths === undefined) return { names, format };
  throw new TidemarkError("USAGE", "--table and --path cannot be asked for at once", {
    hint: "Tables come out of databases, paths out of file trees: restore one after the other, into two directories.",
  });
}

function targetDirectory(cli: Cli, given: string | undefined): string {
  if (given === undefined) {
    throw new TidemarkError("USAGE", "required option '--target <dir>' not specified", {
      hint: "See `tidemark restore --help`.",
    });
  }
  if (given !== "") return path.resolve(cli.directory, given);
  throw new TidemarkError("USAGE", "--target is empty", { hint: "Give a directory that is empty or not there yet." });
}
