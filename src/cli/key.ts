import { Command } from "commander";

import { configError } from "../config/config-error.ts";
import type { RepositoryKeys } from "../repository/keys/repository-keys.ts";
import { agentPlaces, askFirst } from "./ask-agents.ts";
import { type Cli, oneShot } from "./cli.ts";
import { openLogToRead } from "./open-log.ts";
import { type SetOptions, setCommand, settingsFor } from "./set-options.ts";
import { textTable } from "./text-table.ts";

const ROTATE_TIMEOUT_MS = 60_000;

/** One line of `key list --json`. */
interface ListedKey {
  /** Of the log, or of a repository. */
  readonly location: string;
  readonly id: string;
  /** Since when it is there. */
  readonly at: string;
  /** What comes is encrypted with it. */
  readonly inUse: boolean;
  readonly recipients: readonly string[];
  /** In a log: its first announcement. */
  readonly offset?: number;
}

export function keyCommand(cli: Cli): Command {
  const command = new Command("key").summary("keys with which a set is encrypted").helpCommand(false);
  for (const create of [listCommand, rotateCommand, addCommand, removeCommand]) command.addCommand(create(cli));
  return command;
}

function listCommand(cli: Cli): Command {
  return setCommand({
    name: "list",
    summary: "list the data keys, and who can open them",
    description:
      "Lists the data keys of the log, or of a repository, oldest first. No key is shown, and no identity is needed.",
    examples: ["tidemark key list -c tidemark.yml", "tidemark key list --json --repository /mnt/backup"],
  }).action((options: SetOptions) => oneShot(cli, () => list(cli, options)));
}

function rotateCommand(cli: Cli): Command {
  return setCommand({
    name: "rotate",
    summary: "encrypt what comes with a new data key",
    description:
      "Makes a new data key; what is there stays as it is. For the log it asks the running capture agent, and the key is for the recipients of " +
      "tidemark.yml; its repositories take the key over when the replica is started again. With --repository the repository alone gets one, for those who can open it.",
    examples: ["tidemark key rotate -c tidemark.yml", "tidemark key rotate --repository /mnt/backup"],
  }).action((options: SetOptions) => oneShot(cli, () => rotate(cli, options)));
}

function addCommand(cli: Cli): Command {
  return setCommand({
    name: "add",
    summary: "let one more identity open a repository",
    description:
      "Wraps every data key of the repository for one more public key, with an identity that opens them now. What is stored stays as it is. " +
      "The recipients of the log are those of tidemark.yml.",
    examples: [
      "tidemark key add age1… --repository /mnt/backup",
      "tidemark key add age1… --repository /mnt/backup --json",
    ],
  })
    .argument("<recipient>", "public key, age1…")
    .action((recipient: string, options: SetOptions) =>
      oneShot(cli, () => change(cli, options, (keys) => keys.add(recipient, cli.signal))),
    );
}

function removeCommand(cli: Cli): Command {
  return setCommand({
    name: "remove",
    summary: "let an identity not open a repository any more",
    description:
      "Wraps every data key of the repository for the others alone. Whoever opened it before may have kept the keys: `tidemark key rotate` makes a " +
      "new one for what comes. The last recipient is not removed.",
    examples: ["tidemark key remove age1… --repository /mnt/backup"],
  })
    .argument("<recipient>", "public key, age1…")
    .action((recipient: string, options: SetOptions) =>
      oneShot(cli, () => change(cli, options, (keys) => keys.remove(recipient, cli.signal))),
    );
}

async function list(cli: Cli, options: SetOptions): Promise<void> {
  const keys = options.repository ? await ofRepositories(cli, options) : await ofLog(cli, options);
  if (options.json) return cli.print(JSON.stringify({ keys }));
  if (keys.length === 0) return cli.note("the log is not encrypted");
  const rows = keys.map(({ id, at, inUse, recipients, location }) => [
    id,
    at,
    inUse ? "in use" : "",
    recipients.join(" "),
    location,
  ]);
  for (const line of textTable(rows)) await cli.print(line);
}

async function ofLog(cli: Cli, options: SetOptions): Promise<ListedKey[]> {
  const settings = await settingsFor(cli, "client", options);
  await using log = await openLogToRead("key list", settings);
  const { listKeys } = await import("../log/list-keys.ts");
  const keys = await listKeys(log, cli.signal);
  return keys.map(({ id, recipients, offset, timeMs }, index) => ({
    location: log.location,
    id,
    at: new Date(timeMs).toISOString(),
    inUse: index === keys.length - 1,
    recipients,
    offset,
  }));
}

async function ofRepositories(cli: Cli, options: SetOptions): Promise<ListedKey[]> {
  const found: ListedKey[] = [];
  await eachRepository(cli, options, async ({ all }, location) => {
    for (const [index, { id, createdMs, recipients }] of all.entries()) {
      const at = new Date(createdMs).toISOString();
      found.push({ location, id, at, inUse: index === all.length - 1, recipients });
    }
  });
  return found;
}

async function rotate(cli: Cli, options: SetOptions): Promise<void> {
  if (options.repository) return change(cli, options, async (keys) => void (await keys.rotate(cli.signal)));
  const settings = await settingsFor(cli, "client", options);
  const request = { method: "POST", path: "/rotate-key", timeoutMs: ROTATE_TIMEOUT_MS, signal: cli.signal } as const;
  const made = (await askFirst(agentPlaces(settings), request)) as { readonly key: string; readonly offset: number };
  await cli.print(options.json ? JSON.stringify(made) : `key ${made.key} is in use from offset ${made.offset} on`);
}

async function change(cli: Cli, options: SetOptions, work: (keys: RepositoryKeys) => Promise<void>): Promise<void> {
  if (!options.repository) throw repositoryMissing();
  await eachRepository(cli, options, async (keys, location) => {
    await work(keys);
    const { recipients } = keys;
    const key = keys.all.at(-1)?.id ?? "";
    const told = { ok: true, location, key, recipients };
    await cli.print(
      options.json ? JSON.stringify(told) : `${location}: key ${key} is in use, for ${recipients.join(", ")}`,
    );
  });
}

async function eachRepository(
  cli: Cli,
  options: SetOptions,
  work: (keys: RepositoryKeys, location: string) => Promise<void>,
): Promise<void> {
  const { withRepositoryKeys } = await import("../compose.ts");
  const { encryption, repositories } = await settingsFor(cli, "client", options);
  const { clock, signal } = cli;
  for (const repository of options.repository ? repositories : [])
    await withRepositoryKeys({ repository, encryption, clock, signal }, work);
}

function repositoryMissing(): Error {
  return configError(
    "this does not say which repository is meant",
    "Give --repository. The recipients of the log are those of tidemark.yml: change them there and start the agent again.",
  );
}
