import { Command } from "commander";

import {
  configFileOf,
  type Flags,
  type LoadOptions,
  loadConfig,
  loadSettings,
  type Role,
  type Settings,
} from "../config/load-config.ts";
import { formatDuration, parseDuration } from "../config/units.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { Cli } from "./cli.ts";

export interface SetOptions extends Flags {
  readonly json?: boolean;
}

/** Of commands that read repositories. */
export interface HistoryOptions extends Omit<SetOptions, "log"> {
  readonly repository?: readonly string[] | undefined;
  /** false: not to be read. */
  readonly log?: string | false | undefined;
}

interface CommandText {
  /** It reads repositories. */
  readonly repository?: true;
  readonly name: string;
  readonly summary: string;
  readonly description?: string;
  readonly examples: readonly string[];
}

/** A command that works on a set: the flags that say which, and examples in its help. */
export function setCommand({ name, summary, description, examples, repository }: CommandText): Command {
  const command = new Command(name)
    .summary(summary)
    .description(description ?? summary)
    .option("-c, --config <file>", "configuration file (default: ./tidemark.yml when there is one)")
    .option("--set <name>", "name of the set (default: the first database's file name)")
    .option("--db <path[=name]>", "a database; repeat it for several; globs are expanded", collect)
    .option("--files <dir[=name]>", "a directory of files, or a single file; repeat it for several", collect)
    .option("--standby <dir>", "directory of the standby")
    .option(
      "--repository <where>",
      "a repository: directory, s3://BUCKET/PREFIX, or sftp://USER@HOST/DIR; repeatable",
      collect,
    )
    .option("--log <where>", "embedded:DIR or nats://[user:password@]host:port[,host:port]")
    .option("--state <dir>", "directory for the agent's state and control socket")
    .option("--json", "answer in JSON, and errors too")
    .addHelpText("after", `\nExamples:\n${examples.map((example) => `  ${example}`).join("\n")}`);
  return repository ? command.option("--no-log", "do not read what the log holds beyond the repository") : command;
}

/** For commander: an option that may be repeated. */
export function collect(value: string, previous: readonly string[] | undefined): readonly string[] {
  return [...(previous ?? []), value];
}

/** What an agent works with. @throws CONFIG */
export async function agentConfig(cli: Cli, role: Role, flags: Flags): Promise<ReturnType<typeof loadConfig>> {
  return loadConfig(await askingTheLog(await loadOptions(cli, role, flags)));
}

/** What a one-shot command knows. @throws CONFIG */
export async function settingsFor(cli: Cli, role: "check" | "client", flags: Flags): Promise<Settings> {
  const options = await loadOptions(cli, role, flags);
  const settings = loadSettings(options);
  // Only then the log itself is asked, which takes SQLite.
  const fromLog = settings.set === undefined && settings.log?.kind === "embedded";
  return fromLog ? loadSettings(await askingTheLog(options)) : settings;
}

async function loadOptions({ environment, directory }: Cli, role: Role, flags: Flags): Promise<LoadOptions> {
  const place = configFileOf({ flags, directory });
  // What reads it takes a tenth of a second to load.
  const file =
    place === undefined ? undefined : (await import("../config/config-file.ts")).readConfigFile(place, environment);
  return { role, flags, environment, directory, file };
}

async function askingTheLog(options: LoadOptions): Promise<LoadOptions> {
  const { embeddedLogSet } = await import("../log/embedded-set.ts");
  return { ...options, setOfLog: (log) => embeddedLogSet(log.directory) };
}

/** For commander: a duration with its unit, in ms. */
export function durationOption(text: string): number {
  const ms = parseDuration(text);
  if (ms !== undefined && ms > 0 && ms < 2 ** 31) return ms;
  throw new TidemarkError("USAGE", `${JSON.stringify(text)} is no duration`, {
    hint: `Write it with a unit, for instance 500ms, 60s or 5m, up to ${formatDuration(2 ** 31 - 1)}.`,
  });
}
