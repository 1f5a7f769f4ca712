import type { Command } from "commander";

import { type Cli, oneShot } from "./cli.ts";
import { openLogToRead } from "./open-log.ts";
import { type SetOptions, setCommand, settingsFor } from "./set-options.ts";
import { textTable } from "./text-table.ts";

export function marksCommand(cli: Cli): Command {
  return setCommand({
    name: "marks",
    summary: "list the marks in the log",
    examples: ["tidemark marks --standby /mnt/standby", "tidemark marks --json -c tidemark.yml"],
  }).action((options: SetOptions) => oneShot(cli, () => marks(cli, options)));
}

async function marks(cli: Cli, options: SetOptions): Promise<void> {
  const settings = await settingsFor(cli, "client", options);
  await using log = await openLogToRead("marks", settings);
  const { LogHistory } = await import("../restore/log-history.ts");
  const found = await new LogHistory(log).marks(cli.signal);
  const told = found.map(({ name, offset, timeMs }) => ({ name, offset, at: new Date(timeMs).toISOString() }));
  if (options.json) return cli.print(JSON.stringify({ marks: told }));
  if (told.length === 0) return cli.note("no marks yet; `tidemark mark NAME` makes one");
  for (const line of textTable(
    told.map(({ name, offset, at }) => [String(offset), at, name]),
    new Set([0]),
  ))
    await cli.print(line);
}
