import { type Command, Option } from "commander";
import path from "node:path";

import type { TablesWanted } from "../restore/extract-tables.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { type Cli, oneShot } from "./cli.ts";
import { openLogToRead } from "./open-log.ts";
import { progressLine } from "./progress-line.ts";
import { restoreText } from "./restore-text.ts";
import { collect, type SetOptions, setCommand, settingsFor } from "./set-options.ts";

interface RestoreOptions extends SetOptions {
  readonly target: string;
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
    summary: "build databases and files as they were at a moment, into a directory",
    description:
      "Builds databases and file trees as they were at a moment from the log, into an empty directory, and verifies them (databases: checksum, integrity_check, foreign_key_check; files: SHA-256). Needs no agent.",
    examples: [
      "tidemark restore --standby /mnt/standby --target /tmp/app",
      "tidemark restore --standby /mnt/standby --target /tmp/app --to 2026-01-31T17:45:00+01:00",
      "tidemark restore -c tidemark.yml --target /tmp/app --to mark:before-upgrade --database app.db",
      "tidemark restore --standby /mnt/standby --target /tmp/lost --path 'uploads/2026/**/*.pdf' --to 2026-01-31T17:45:00Z",
      "tidemark restore --standby /mnt/standby --target /tmp/orders --table orders --format sql --to 2026-01-31T17:45:00Z",
      "tidemark restore --log nats://nats-1:4222 --set app --target /tmp/app --to 81234 --dry-run",
    ],
  })
    .requiredOption("--target <dir>", "where to; must be empty or not there yet")
    .option("--to <moment>", "latest, a time (RFC 3339 with zone), an offset, or mark:NAME", "latest")
    .option("--database <name>", "only this database; repeat it for several", collect)
    .option("--path <glob>", "only these files and directories of trees, as TREE/PATH; repeat it for several", collect)
    .option("--table <name>", "only this table of a database, as a database of its own; repeat it for several", collect)
    .addOption(new Option("--format <how>", "what --table makes").choices(["db", "sql"]).default("db"))
    .option("--consistent", "the nearest moment before it at which databases and files are known to fit")
    .option("--dry-run", "only tell what would be done")
    .option("--force", "replace what is in the target")
    .addOption(new Option("--check <how>", "how thoroughly to verify").choices(["full", "quick"]).default("full"));
  return command.action((options: RestoreOptions) => oneShot(cli, () => restoreTo(cli, options)));
}

async function restoreTo(cli: Cli, options: RestoreOptions): Promise<void> {
  const [{ restore }, { LogHistory }, { requireKeys }, { parseRestoreTarget }] = await Promise.all([
    import("../restore/restore.ts"),
    import("../restore/log-history.ts"),
    import("../log/open-record.ts"),
    import("../restore/restore-target.ts"),
  ]);
  const target = parseRestoreTarget(options.to);
  const settings = await settingsFor(cli, "client", options);
  await using log = await openLogToRead("restore", settings);
  await requireKeys(log);
  using progress = progressLine(cli.clock.monotonic);
  const report = await restore({
    history: new LogHistory(log),
    target,
    directory: targetDirectory(cli, options.target),
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
  if (options.json) return cli.print(JSON.stringify(report));
  for (const line of restoreText(report)) await cli.print(line);
}

function tablesOf({ table: names, path: paths, format }: RestoreOptions): TablesWanted | undefined {
  if (names === undefined) return undefined;
  if (paths === undefined) return { names, format };
  throw new TidemarkError("USAGE", "--table and --path cannot be asked for at once", {
    hint: "Tables come out of databases, paths out of file trees: restore one after the other, into two directories.",
  });
}

function targetDirectory(cli: Cli, given: string): string {
  if (given !== "") return path.resolve(cli.directory, given);
  throw new TidemarkError("USAGE", "--target is empty", { hint: "Give a directory that is empty or not there yet." });
}
