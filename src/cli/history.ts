import type { Command } from "commander";

import { type CurrentEpoch, epochsOf } from "../log/log-reader.ts";
import { type Cli, oneShot } from "./cli.ts";
import { openLogToRead } from "./open-log.ts";
import { type SetOptions, setCommand, settingsFor } from "./set-options.ts";
import { textTable } from "./text-table.ts";

export function historyCommand(cli: Cli): Command {
  return setCommand({
    name: "history",
    summary: "list the epochs: who was the primary, since when, and why",
    description:
      "Lists the epochs of the log, the newest last: who became the primary at which offset, why, and how many events were lost by it. An epoch whose first record was trimmed has no host and no reason.",
    examples: ["tidemark history -c tidemark.yml", "tidemark history --json --set app --log nats://nats-1:4222"],
  }).action((options: SetOptions) => oneShot(cli, () => history(cli, options)));
}

async function history(cli: Cli, options: SetOptions): Promise<void> {
  const settings = await settingsFor(cli, "client", options);
  await using log = await openLogToRead("history", settings);
  const epochs = [];
  for await (const one of epochsOf(log)) epochs.unshift(toldOf(one));
  if (options.json) return cli.print(JSON.stringify({ epochs }));
  const rows = epochs.map(({ epoch, offset, at, host, reason, lost }) => [
    String(epoch),
    String(offset),
    at,
    host ?? "",
    reason ?? "(trimmed)",
    lost === null ? "unknown" : lost === 0 ? "" : `${lost} events`,
  ]);
  for (const line of textTable([["epoch", "offset", "time", "host", "why", "lost"], ...rows], new Set([0, 1])))
    await cli.print(line);
}

function toldOf({ epoch, offset, timeMs, start }: CurrentEpoch) {
  return {
    epoch,
    offset,
    at: new Date(timeMs).toISOString(),
    host: start?.host ?? null,
    writer: start?.writer ?? null,
    reason: start?.reason ?? null,
    // Of a log that was lost nobody knows where it ended.
    lost:
      start?.reason === "new-log" ? null : start?.contains === undefined ? 0 : Math.max(0, offset - 1 - start.contains),
  };
}
