import type { Command } from "commander";

import { configError } from "../config/config-error.ts";
import type { Settings } from "../config/load-config.ts";
import type { Finding } from "../observe/finding.ts";
import { type Cli, oneShot } from "./cli.ts";
import { openLogToRead } from "./open-log.ts";
import { locationOf } from "./restore-hint.ts";
import { type SetOptions, setCommand, settingsFor } from "./set-options.ts";
import { hasCode } from "../runtime/errors.ts";

const SIGNS = { ok: "ok  ", warn: "warn", fail: "FAIL" } as const;

export function checkCommand(cli: Cli): Command {
  return setCommand({
    name: "check",
    summary: "tell whether the set-up is sound",
    description:
      "Looks at configuration, permissions, SQLite versions, WAL mode, file trees, the log and its durability, and the standby's disk. Changes nothing.",
    examples: [
      "tidemark check --db app.db --standby /mnt/standby",
      "tidemark check --json -c /etc/tidemark/tidemark.yml",
    ],
  }).action((options: SetOptions) => oneShot(cli, () => check(cli, options)));
}

async function check(cli: Cli, options: SetOptions): Promise<void> {
  const findings = await findAll(cli, options);
  cli.exitCode = Math.max(...findings.map(({ exitCode }) => exitCode));
  const told = findings.map(({ severity, code, message, hint }) => ({ severity, code, message, hint }));
  const sound = !findings.some(({ severity }) => severity === "fail");
  if (options.json) return cli.print(JSON.stringify({ ok: sound, findings: told }));
  for (const { severity, code, message, hint } of told) {
    await cli.print(severity === "ok" ? `${SIGNS.ok}  ${message}` : `${SIGNS[severity]}  ${code}: ${message}. ${hint}`);
  }
}

async function findAll(cli: Cli, options: SetOptions): Promise<Finding[]> {
  const { fail, look, ok } = await import("../observe/finding.ts");
  let settings: Settings;
  try {
    settings = await settingsFor(cli, "check", options);
    const { databases, patterns, trees, standby } = settings;
    if (databases.length + patterns.length + trees.length === 0 && standby === undefined) throw nothingToCheck();
  } catch (error) {
    return [fail(error)];
  }
  const { requireSafeSqlite } = await import("../capture/sqlite/preflight.ts");
  return [
    ok("CONFIG", settings.file === undefined ? "the flags are understood" : `${settings.file} is understood`),
    await look("SQLITE", "Tidemark's own SQLite library is new enough", requireSafeSqlite),
    ...(await checkDatabases(settings)),
    ...(await checkTrees(settings)),
    ...(await checkLimits(settings)),
    ...(await checkPlaces(settings)),
    ...(await checkLog(settings)),
  ];
}

function nothingToCheck(): Error {
  return configError(
    "there is nothing to check",
    "Give -c FILE, or --db PATH or --files DIR, and --standby DIR or --log.",
  );
}

async function checkDatabases({ databases, patterns }: Settings): Promise<Finding[]> {
  const { checkDatabase, checkPattern } = await import("../observe/check-database.ts");
  return [
    ...databases.flatMap((database) => checkDatabase(database)),
    ...patterns.flatMap((pattern) => checkPattern(pattern, databases)),
  ];
}

async function checkTrees({ trees }: Settings): Promise<Finding[]> {
  const { checkTree } = await import("../observe/check-tree.ts");
  return trees.flatMap((tree) => checkTree(tree));
}

/** For the agent that this host would run: what is configured tells which. */
async function checkLimits(settings: Settings): Promise<Finding[]> {
  const { checkOpenFiles } = await import("../observe/open-files.ts");
  const { databases, standby } = settings;
  if (databases.length === 0) return [];
  return checkOpenFiles(standby === undefined ? "capture" : "run", settings);
}

async function checkPlaces(settings: Settings): Promise<Finding[]> {
  const { checkStandbyDisk, checkWritable } = await import("../observe/check-places.ts");
  const { look } = await import("../observe/finding.ts");
  const { requireRoomForCopy } = await import("../observe/copy-size.ts");
  const { standby, state, databases, log } = settings;
  const findings: Finding[] = [];
  if (standby !== undefined) {
    findings.push(checkWritable("STANDBY", "the standby", standby), ...checkStandbyDisk(standby, databases));
  }
  // `run` keeps its state on the standby unless told otherwise; `capture` in a place of the host.
  if (databases.length > 0 && standby === undefined && state !== undefined)
    findings.push(checkWritable("STATE", "the state directory", state));
  if (log?.kind === "embedded") findings.push(checkWritable("LOG_DIRECTORY", "the log's directory", log.directory));
  if (log?.kind === "nats" && log.maxBytes !== undefined) {
    findings.push(await look("LOG_ROOM", "the log's limit has room for a copy", () => requireRoomForCopy(settings)));
  }
  return findings;
}

/** A log that does not exist yet is no fault: the first `run` or `capture` makes it. */
async function checkLog(settings: Settings): Promise<Finding[]> {
  const { fail, ok } = await import("../observe/finding.ts");
  const { logFindings } = await import("../observe/check-log.ts");
  try {
    await using log = await openLogToRead("check", settings);
    return await logFindings(log);
  } catch (error) {
    const place = settings.log ? locationOf(settings.log) : "";
    if (hasCode(error, "LOG_UNREACHABLE") && isOnlyNew(error.message))
      return [ok("LOG", `${place}: there is no log yet; the first start makes it`)];
    return [fail(error)];
  }
}

function isOnlyNew(message: string): boolean {
  return message.includes("there is no log yet") || message.includes("there is no such stream yet");
}
