import type { Command } from "commander";

import { type Cli, oneShot } from "./cli.ts";
import { openHistory } from "./open-history.ts";
import { type HistoryOptions, setCommand } from "./set-options.ts";
import { textTable } from "./text-table.ts";

export function marksCommand(cli: Cli): Command {
  return setCommand({
    name: "marks",
    repository: true,
    summary: "list the marks in the log, or in a repository",
    examples: ["tidemark marks --standby /mnt/standby", "tidemark marks --json -c tidemark.yml"],
  }).action((options: HistoryOptions) => oneShot(cli, () => marks(cli, options)));
}

async function marks(cli: Cli, options: HistoryOptions): Promise<void> {
  await using opened = await openHistory(cli, { command: "marks", options, configured: false, keys: false });
  const found = await opened.history.marks(cli.signal);
  const told = found.map(({ name, offset, timeMs }) => ({ name, offset, at: new Date(timeMs).toISOString() }));
  if (options.json) return cli.print(JSON.stringify({ marks: told }));
  if (told.length === 0) return cli.note("no marks yet; `tidemark mark NAME` makes one");
  for (const line of textTable(
    told.map(({ name, offset, at }) => [String(offset), at, name]),
    new Set([0]),
  ))
    await cli.print(line);
}
