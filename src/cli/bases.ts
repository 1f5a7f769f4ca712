import type { Command } from "commander";

import { formatSize } from "../config/units.ts";
import { configError } from "../config/config-error.ts";
import type { Settings } from "../config/load-config.ts";
import type { Repository } from "../repository/repository.ts";
import { type Cli, oneShot } from "./cli.ts";
import { type SetOptions, setCommand, settingsFor } from "./set-options.ts";
import { textTable } from "./text-table.ts";

/** One line of `bases --json`. */
interface ListedBase {
  readonly location: string;
  readonly name: string;
  readonly offset: number;
  readonly at: string;
  readonly verified: string | null;
  readonly databases: number;
  /** Entries of its trees. */
  readonly entries: number;
  readonly bytesNew: number;
  readonly bytesAll: number;
}

export function basesCommand(cli: Cli): Command {
  return setCommand({
    name: "bases",
    summary: "list the bases in the repositories",
    examples: ["tidemark bases --repository /mnt/backup", "tidemark bases --json -c tidemark.yml"],
  }).action((options: SetOptions) => oneShot(cli, () => bases(cli, options)));
}

async function bases(cli: Cli, options: SetOptions): Promise<void> {
  const settings = await settingsFor(cli, "client", options);
  const found = await listAll(cli, settings);
  if (options.json) return cli.print(JSON.stringify({ bases: found }));
  if (found.length === 0) return cli.note("no bases yet; `tidemark base create` makes one");
  const rows = found.map(({ offset, at, verified, bytesNew, bytesAll, location }) => [
    String(offset),
    at,
    verified === null ? "not verified" : "verified",
    formatSize(bytesAll),
    formatSize(bytesNew),
    location,
  ]);
  for (const line of textTable([["offset", "time", "", "size", "new", "repository"], ...rows], new Set([0, 3, 4])))
    await cli.print(line);
}

async function listAll(cli: Cli, settings: Settings): Promise<ListedBase[]> {
  if (settings.repositories.length === 0) {
    throw configError(
      "tidemark bases does not know where the repository is",
      "Give --repository DIR, or repository: in tidemark.yml.",
    );
  }
  const { readRepositories } = await import("../compose/repositories.ts");
  const listed: ListedBase[] = [];
  await readRepositories(settings, cli, async (repository) => {
    listed.push(...(await listOf(repository, cli.signal)));
  });
  return listed;
}

async function listOf({ location, bases: store }: Repository, signal: AbortSignal): Promise<ListedBase[]> {
  const verified = await store.verified(signal);
  const listed: ListedBase[] = [];
  for (const base of await store.list(signal)) {
    const { offset, timeMs, databases, trees, bytesNew, bytesAll } = await store.read(base, signal);
    const note = verified.get(base.uuid);
    listed.push({
      location,
      name: base.name,
      offset,
      at: new Date(timeMs).toISOString(),
      verified: note ? new Date(note.atMs).toISOString() : null,
      databases: databases.length,
      entries: trees.reduce((sum, { count }) => sum + count, 0),
      bytesNew,
      bytesAll,
    });
  }
  return listed;
}
