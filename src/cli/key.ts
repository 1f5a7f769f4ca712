import { Command } from "commander";

import { agentPlaces, askFirst } from "./ask-agents.ts";
import { type Cli, oneShot } from "./cli.ts";
import { openLogToRead } from "./open-log.ts";
import { type SetOptions, setCommand, settingsFor } from "./set-options.ts";
import { textTable } from "./text-table.ts";

const ROTATE_TIMEOUT_MS = 60_000;

export function keyCommand(cli: Cli): Command {
  const command = new Command("key").summary("keys with which a set is encrypted").helpCommand(false);
  for (const create of [listCommand, rotateCommand]) command.addCommand(create(cli));
  return command;
}

function listCommand(cli: Cli): Command {
  return setCommand({
    name: "list",
    summary: "list the data keys of the log, and who can open them",
    description:
      "Lists the data keys of the log, oldest first; the last is in use. No key is shown, and none is needed.",
    examples: ["tidemark key list -c tidemark.yml", "tidemark key list --json --standby /mnt/standby"],
  }).action((options: SetOptions) => oneShot(cli, () => list(cli, options)));
}

function rotateCommand(cli: Cli): Command {
  return setCommand({
    name: "rotate",
    summary: "encrypt what comes with a new data key",
    description:
      "Makes a new data key for the recipients of tidemark.yml; what is there stays as it is. Asks the running capture agent. " +
      "Recipients themselves are changed in tidemark.yml: the next start of the agent takes them, with a new data key when one was removed.",
    examples: ["tidemark key rotate -c tidemark.yml", "tidemark key rotate --json --standby /mnt/standby"],
  }).action((options: SetOptions) => oneShot(cli, () => rotate(cli, options)));
}

async function list(cli: Cli, options: SetOptions): Promise<void> {
  const settings = await settingsFor(cli, "client", options);
  await using log = await openLogToRead("key list", settings);
  const { listKeys } = await import("../log/list-keys.ts");
  const keys = await listKeys(log, cli.signal);
  const told = keys.map(({ id, recipients, offset, timeMs }, index) => ({
    id,
    offset,
    at: new Date(timeMs).toISOString(),
    inUse: index === keys.length - 1,
    recipients,
  }));
  if (options.json) return cli.print(JSON.stringify({ keys: told }));
  if (told.length === 0) return cli.note("the log is not encrypted");
  const rows = told.map(({ id, offset, at, recipients }) => [id, String(offset), at, recipients.join(" ")]);
  for (const line of textTable(rows, new Set([1]))) await cli.print(line);
}

async function rotate(cli: Cli, options: SetOptions): Promise<void> {
  const settings = await settingsFor(cli, "client", options);
  const request = { method: "POST", path: "/rotate-key", timeoutMs: ROTATE_TIMEOUT_MS, signal: cli.signal } as const;
  const made = (await askFirst(agentPlaces(settings), request)) as { readonly key: string; readonly offset: number };
  await cli.print(options.json ? JSON.stringify(made) : `key ${made.key} is in use from offset ${made.offset} on`);
}
