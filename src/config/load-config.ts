import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import type { Config, DatabaseConfig, EmbeddedLogConfig, LogConfig, TreeConfig } from "./config.ts";
import { encryptionConfig, requireRecipientsToWrite } from "./encryption-config.ts";
import { baseConfig, captureConfig, fenceConfig, hooksConfig, replicaConfig, trimConfig } from "./agent-config.ts";
import { configError } from "./config-error.ts";
import type { ConfigFile, Environment } from "./config-file.ts";
import { expandDatabases, type GivenDatabase, type GivenList } from "./database-list.ts";
import { baseDirectory } from "./database-patterns.ts";
import { type HttpConfig, parseListen } from "./http-listen.ts";
import { parseLogLocation } from "./log-location.ts";
import { natsLogConfig } from "./nats-config.ts";
import { realPath } from "./real-path.ts";
import { repositoriesConfig } from "./repository-config.ts";
import { defaultSetName, requireSetName } from "./set-name.ts";
import { type GivenTree, nameTrees, parseNamedPath, refuseWrongTrees } from "./tree-list.ts";

export const DEFAULT_FILE = "tidemark.yml";

/** run, capture and replica insist on what they need; the others take what is there. */
export type Role = "run" | "capture" | "replica" | "check" | "client";

/** What the command line said, as text. */
export interface Flags {
  readonly config?: string | undefined;
  readonly set?: string | undefined;
  readonly db?: readonly string[] | undefined;
  readonly files?: readonly string[] | undefined;
  readonly standby?: string | undefined;
  readonly log?: string | undefined;
  readonly state?: string | undefined;
  readonly repository?: readonly string[] | undefined;
  readonly setWal?: boolean | undefined;
}

export interface LoadOptions {
  readonly role: Role;
  readonly flags: Flags;
  readonly environment: Environment;
  /** Where relative paths of flags count from. */
  readonly directory: string;
  /** Where `configFileOf` says. */
  readonly file: ConfigFile | undefined;
  /** The set that an embedded log belongs to, for a host that knows nothing else. */
  readonly setOfLog?: (log: EmbeddedLogConfig) => string | undefined;
}

/** Everything that was said, with defaults; `set`, `state` and the rest may be unknown to a one-shot command. */
export type Settings = Omit<Config, "set" | "state"> & {
  readonly set: string | undefined;
  readonly state: string | undefined;
  /** The file that was read, absolute. */
  readonly file: string | undefined;
};

/** For commands that can do with less than an agent needs. @throws CONFIG */
export function loadSettings(options: LoadOptions): Settings {
  const { file } = options;
  const standby = standbyOf(options, file);
  const trees = nameTrees(givenTrees(options, file));
  const list = expandDatabases(givenDatabases(options, file), { own: standby === undefined ? [] : [standby], trees });
  const { databases, patterns } = list;
  const log = logOf(options, { file, standby });
  if (standby !== undefined) refuseStandbyOnSource(standby, databases);
  const set = setOf(options, { file, list, log, firstTree: trees[0] });
  const state = stateOf(options, { file, standby, set });
  const own = [standby, state, log?.kind === "embedded" ? log.directory : undefined].filter((one) => one !== undefined);
  refuseWrongTrees(trees, { databases, standby, own });
  return deepFreeze({
    set,
    databases,
    patterns,
    trees,
    log,
    standby,
    repositories: repositoriesOf(options, { file, standby, log }),
    state,
    capture: captureConfig(file, options.flags.setWal),
    replica: replicaConfig(file),
    encryption: encryptionOf(options, file),
    base: baseConfig(file),
    expire: file?.values.expire ?? "auto",
    trim: trimConfig(file),
    objectives: { rpoMs: file?.values.objectives?.rpo ?? 60_000 },
    http: httpOf(file),
    fence: fenceConfig(file),
    hooks: hooksConfig(file),
    file: file?.path,
  });
}

/** For the agents. @throws CONFIG naming what is missing */
export function loadConfig(options: LoadOptions): Config & Settings {
  const settings = loadSettings(options);
  const { role } = options;
  if (role !== "replica" && [...settings.databases, ...settings.patterns, ...settings.trees].length === 0) {
    throw configError(
      `tidemark ${role} needs a database or a file tree`,
      "Give --db PATH or --files DIR, or databases: or files: in tidemark.yml.",
    );
  }
  if (role !== "capture" && settings.standby === undefined) {
    throw configError(
      `tidemark ${role} needs a directory for the standby`,
      "Give --standby DIR, or standby: in tidemark.yml.",
    );
  }
  if (settings.log === undefined) throw logMissing(role);
  const { set } = settings;
  if (set === undefined) {
    throw configError(
      `tidemark ${role} needs the name of the set`,
      "Give --set NAME, or set: in tidemark.yml; on the primary it is shown by `tidemark status`.",
    );
  }
  const state = role === "replica" ? standbyState(settings.standby ?? "") : (settings.state ?? "");
  return deepFreeze({ ...settings, set, state });
}

function repositoriesOf(
  { flags, directory, role }: LoadOptions,
  { file, standby, log }: { file: ConfigFile | undefined; standby: string | undefined; log: LogConfig | undefined },
): Settings["repositories"] {
  const agent = role === "run" || role === "replica";
  const own = standby === undefined ? undefined : { standbyState: standbyState(standby), log, agent };
  return repositoriesConfig(file, { given: flags.repository, directory, own });
}

function encryptionOf({ role, environment }: LoadOptions, file: ConfigFile | undefined): Settings["encryption"] {
  const encryption = encryptionConfig(file, environment);
  if (role === "run" || role === "capture") requireRecipientsToWrite(encryption, file);
  return encryption;
}

export function logMissing(command: string): Error {
  return configError(
    `tidemark ${command} does not know where the log is`,
    "Give --log nats://HOST:4222 or --log embedded:DIR, or log: in tidemark.yml.",
  );
}

/** Where Tidemark keeps its own things on a standby; a control socket of an agent there is in it too. */
export function standbyState(standby: string): string {
  return path.join(standby, ".tidemark");
}

function httpOf(file: ConfigFile | undefined): HttpConfig | undefined {
  const listen = file?.values.http?.listen;
  return listen === undefined || !file ? undefined : parseListen(listen, file.where(["http", "listen"]));
}

/** The configuration file that was named, or ./tidemark.yml when there is one. */
export function configFileOf({ flags, directory }: Pick<LoadOptions, "flags" | "directory">): string | undefined {
  if (flags.config !== undefined) return path.resolve(directory, flags.config);
  const usual = path.join(directory, DEFAULT_FILE);
  return fs.existsSync(usual) ? usual : undefined;
}

function givenDatabases({ flags, directory }: LoadOptions, file: ConfigFile | undefined): readonly GivenDatabase[] {
  if (flags.db && flags.db.length > 0) return flags.db.map((text) => parseNamedPath("--db", text, directory));
  if (!file) return [];
  return (file.values.databases ?? []).map((entry, index) => {
    const { path: databasePath, name } = typeof entry === "string" ? { path: entry, name: undefined } : entry;
    return { path: databasePath, name, directory: path.dirname(file.path), where: file.where(["databases", index]) };
  });
}

function givenTrees({ flags, directory }: LoadOptions, file: ConfigFile | undefined): readonly GivenTree[] {
  if (flags.files && flags.files.length > 0)
    return flags.files.map((text) => parseNamedPath("--files", text, directory));
  if (!file) return [];
  return (file.values.files ?? []).map((entry, index) => ({
    ...(typeof entry === "string" ? { path: entry, name: undefined } : { ...entry, name: entry.name }),
    directory: path.dirname(file.path),
    where: file.where(["files", index]),
  }));
}

function standbyOf({ flags, directory }: LoadOptions, file: ConfigFile | undefined): string | undefined {
  if (flags.standby !== undefined) return directoryFlag("--standby", flags.standby, directory);
  const given = file?.values.standby;
  if (given === undefined || !file) return undefined;
  return path.resolve(path.dirname(file.path), typeof given === "string" ? given : given.path);
}

function directoryFlag(flag: string, given: string, directory: string): string {
  if (given === "") throw configError(`${flag}: is empty`, `Write ${flag} DIR.`);
  return path.resolve(directory, given);
}

function logOf(
  options: LoadOptions,
  { file, standby }: { file: ConfigFile | undefined; standby: string | undefined },
): LogConfig | undefined {
  const { flags, environment, role } = options;
  const fromFlag = flags.log !== undefined;
  const text = flags.log ?? file?.values.log;
  if (text === undefined) {
    // On the standby's disk, so that the log survives the primary's; an agent alone has nobody to share it with.
    const implied = standby !== undefined && role !== "capture" && role !== "replica";
    return implied ? { kind: "embedded", directory: path.join(standbyState(standby), "log") } : undefined;
  }
  const where = fromFlag ? "--log" : (file?.where(["log"]) ?? "log");
  const directory = fromFlag || !file ? options.directory : path.dirname(file.path);
  const location = parseLogLocation(text, { where, directory });
  if (location.kind === "nats") return natsLogConfig({ location, fromFlag, file, environment });
  if (!fromFlag && file?.values.nats)
    throw configError(
      `${file.where(["nats"])}: is of no use with an embedded log`,
      "Remove it, or set log: nats://HOST:4222.",
    );
  return location;
}

function setOf(
  { flags, setOfLog }: LoadOptions,
  known: {
    file: ConfigFile | undefined;
    list: GivenList;
    log: LogConfig | undefined;
    firstTree: TreeConfig | undefined;
  },
): string | undefined {
  const { file, list, log, firstTree } = known;
  if (flags.set !== undefined) return requireSetName(flags.set, "--set");
  if (file?.values.set !== undefined) return requireSetName(file.values.set, file.where(["set"]));
  const listed = list.databases.find(({ byPattern }) => !byPattern);
  if (listed) return defaultSetName(listed.path);
  // Not after what it matches just now, which comes and goes.
  const [pattern] = list.patterns;
  if (pattern) return defaultSetName(baseDirectory(pattern));
  if (firstTree) return defaultSetName(firstTree.path);
  return log?.kind === "embedded" ? setOfLog?.(log) : undefined;
}

function stateOf(
  { flags, directory, role, environment }: LoadOptions,
  known: { file: ConfigFile | undefined; standby: string | undefined; set: string | undefined },
): string | undefined {
  const { file, standby, set } = known;
  if (flags.state !== undefined) return directoryFlag("--state", flags.state, directory);
  if (file?.values.state !== undefined) return path.resolve(path.dirname(file.path), file.values.state);
  if (role === "run" && standby !== undefined) return standbyState(standby);
  return set === undefined ? undefined : path.join(stateHome(environment), "tidemark", set);
}

function stateHome(environment: Environment): string {
  if (process.geteuid?.() === 0) return "/var/lib";
  const home = environment["HOME"] || os.homedir();
  return environment["XDG_STATE_HOME"] || path.join(home, ".local", "state");
}

/** The standby's copy in the place of the application's own file would destroy it. */
function refuseStandbyOnSource(standby: string, databases: readonly DatabaseConfig[]): void {
  const root = realPath(standby);
  for (const { path: file, name } of databases) {
    if (realPath(path.join(root, name)) !== realPath(file)) continue;
    throw configError(
      `the standby ${standby} would keep its copy of ${file} in the very place of ${file}`,
      "Give the standby a directory of its own, best on another disk or host.",
    );
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
