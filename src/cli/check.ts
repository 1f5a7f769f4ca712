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
      "Looks at configuration, permissions, SQLite versions, WAL mode, file trees, the log and its durability, the standby's disk, and repositories, into which an object is put and removed again. Changes nothing else.",
    examples: [
      "tidemark check --db app.db --standby /mnt/standby",
      "tidemark check --repository s3://backups/app",
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
    if (!hasAgent(settings) && settings.repositories.length === 0) throw nothingToCheck();
  } catch (error) {
    return [fail(error)];
  }
  const { requireSafeSqlite } = await import("../capture/sqlite/preflight.ts");
  const { copyBytes } = await import("../observe/copy-size.ts");
  const { checkTrees } = await import("../observe/check-tree.ts");
  const trees = checkTrees(settings.trees);
  return [
    ok("CONFIG", settings.file === undefined ? "the flags are understood" : `${settings.file} is understood`),
    await look("SQLITE", "Tidemark's own SQLite library is new enough", requireSafeSqlite),
    ...(await checkDatabases(settings)),
    ...trees.findings,
    ...(await checkLimits(settings)),
    ...(await checkPlaces(settings, copyBytes(settings.databases) + trees.bytes)),
    ...(await checkEncryption(settings)),
    ...(hasAgent(settings) || settings.log ? await checkLog(settings) : []),
    ...(await checkRepositories(settings, cli)),
  ];
}

/** Something to capture, or a standby. */
function hasAgent({ databases, patterns, trees, standby }: Settings): boolean {
  return databases.length + patterns.length + trees.length > 0 || standby !== undefined;
}

function nothingToCheck(): Error {
  return configError(
    "there is nothing to check",
    "Give -c FILE, or --db PATH or --files DIR, and --standby DIR or --log, or --repository.",
  );
}

async function checkDatabases(settings: Settings): Promise<Finding[]> {
  const { checkDatabase, checkPattern } = await import("../observe/check-database.ts");
  return [
    ...settings.databases.flatMap((database) => checkDatabase(database)),
    ...settings.patterns.flatMap((pattern) => checkPattern(pattern, settings)),
  ];
}

/** For the agent that this host would run: what is configured tells which. */
async function checkLimits(settings: Settings): Promise<Finding[]> {
  const { checkOpenFiles } = await import("../observe/open-files.ts");
  const { databases, standby } = settings;
  if (databases.length === 0) return [];
  return checkOpenFiles(standby === undefined ? "capture" : "run", settings);
}

/** `copyBytes`: what one copy of the set takes. */
async function checkPlaces(settings: Settings, copyBytes: number): Promise<Finding[]> {
  const { checkStandbyDisk, checkWritable } = await import("../observe/check-places.ts");
  const { look } = await import("../observe/finding.ts");
  const { requireRoomForCopy } = await import("../observe/copy-size.ts");
  const { checkOwners } = await import("../observe/check-tree.ts");
  const { standby, state, databases, trees, log } = settings;
  const findings: Finding[] = [];
  if (standby !== undefined) {
    const sources = [...databases, ...trees].map(({ path }) => path);
    findings.push(checkWritable("STANDBY", "the standby", standby), ...checkStandbyDisk(standby, sources, copyBytes));
    if (trees.length > 0) findings.push(checkOwners(standby));
  }
  // `run` keeps its state on the standby unless told otherwise; `capture` in a place of the host.
  if (databases.length + trees.length > 0 && standby === undefined && state !== undefined)
    findings.push(checkWritable("STATE", "the state directory", state));
  if (log?.kind === "embedded") findings.push(checkWritable("LOG_DIRECTORY", "the log's directory", log.directory));
  if (log?.kind === "nats" && log.maxBytes !== undefined) {
    const message = "the log's limit has room for a copy";
    findings.push(await look("LOG_ROOM", message, () => requireRoomForCopy(log, copyBytes)));
  }
  return findings;
}

async function checkEncryption({ encryption }: Settings): Promise<Finding[]> {
  const { encryptionFindings } = await import("../observe/check-encryption.ts");
  return encryptionFindings(encryption);
}

/** A log that does not exist yet is no fault: the first `run` or `capture` makes it. */
async function checkLog(settings: Settings): Promise<Finding[]> {
  const { fail, ok } = await import("../observe/finding.ts");
  const { keyFindings } = await import("../observe/check-encryption.ts");
  const { logFindings } = await import("../observe/check-log.ts");
  try {
    await using log = await openLogToRead("check", settings);
    // Who captures has keys of its own; a standby alone has to open the log's.
    const mustRead = settings.standby !== undefined && settings.databases.length + settings.trees.length === 0;
    return [...(await logFindings(log)), ...(await keyFindings(log, { mustRead }))];
  } catch (error) {
    const place = settings.log ? locationOf(settings.log) : "";
    if (hasCode(error, "LOG_UNREACHABLE") && isOnlyNew(error.message))
      return [ok("LOG", `${place}: there is no log yet; the first start makes it`)];
    return [fail(error)];
  }
}

async function checkRepositories({ repositories, set }: Settings, { clock }: Cli): Promise<Finding[]> {
  if (repositories.length === 0) return [];
  const { checkRepository } = await import("../observe/check-repository.ts");
  const found = await Promise.all(repositories.map(async (one) => await checkRepository(one, { set, clock })));
  return found.flat();
}

function isOnlyNew(message: string): boolean {
  return message.includes("there is no log yet") || message.includes("there is no such stream yet");
}
