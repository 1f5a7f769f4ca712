import type { Command } from "commander";

import type { Settings } from "../config/load-config.ts";
import { formatDuration } from "../config/units.ts";
import { agentNotRunning } from "../observe/control-client.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { agentPlaces, askFirst } from "./ask-agents.ts";
import { type Cli, oneShot } from "./cli.ts";
import { durationOption, type SetOptions, setCommand, settingsFor } from "./set-options.ts";

interface SyncOptions extends SetOptions {
  readonly applied?: boolean;
  readonly timeout: number;
}

interface Synced {
  readonly offset: number;
  readonly applied: boolean;
  /** Names of databases that cannot be captured just now, if any. */
  readonly without?: readonly string[];
}

export function syncCommand(cli: Cli): Command {
  return setCommand({
    name: "sync",
    summary: "return when every commit made before this call is in the log",
    description:
      "Returns when every commit made before this call is in the log, with --applied also on the standby. Asks the running agents.",
    examples: ["tidemark sync --standby /mnt/standby", "tidemark sync --applied -c tidemark.yml && ./deploy"],
  })
    .option("--applied", "wait until the standby has them too")
    .option("--timeout <duration>", "how long to wait", durationOption, 60_000)
    .action((options: SyncOptions) => oneShot(cli, () => sync(cli, options)));
}

async function sync(cli: Cli, options: SyncOptions): Promise<void> {
  const settings = await settingsFor(cli, "client", options);
  const beganMs = cli.clock.monotonic();
  const applied = options.applied ?? false;
  const asked = { method: "POST", path: "/sync", timeoutMs: options.timeout, signal: cli.signal } as const;
  const inLog = (await askFirst(agentPlaces(settings), { ...asked, body: { applied } })) as Synced;
  const leftMs = Math.max(1, options.timeout - Math.round(cli.clock.monotonic() - beganMs));
  const shown =
    applied && !inLog.applied ? await onStandby(settings, inLog.offset, { ...asked, timeoutMs: leftMs }) : inLog;
  const { without } = inLog;
  const synced = { ...shown, ...(without && { without }) };
  const durationMs = Math.round(cli.clock.monotonic() - beganMs);
  const where = synced.applied ? "in the log and on the standby" : "in the log";
  const text = `everything up to offset ${synced.offset} is ${where} (${formatDuration(durationMs)})`;
  await cli.print(options.json ? JSON.stringify({ ...synced, durationMs }) : text + exceptFor(without));
}

/** What a promise about all databases does not hold for. */
export function exceptFor(without: readonly string[] | undefined): string {
  return without === undefined ? "" : `, except ${without.join(", ")}: see \`tidemark status\``;
}

/** The capture and the replica are two processes: the replica is asked for the offset that the capture named. */
async function onStandby(
  settings: Settings,
  offset: number,
  asked: { readonly method: "POST"; readonly path: string; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<Synced> {
  const places = agentPlaces({ state: undefined, standby: settings.standby });
  if (places.length === 0) throw standbyUnknown(offset);
  try {
    return (await askFirst(places, { ...asked, body: { applied: true, offset } })) as Synced;
  } catch (error) {
    throw hasCode(error, "AGENT_NOT_RUNNING") ? agentNotRunning(places) : error;
  }
}

function standbyUnknown(offset: number): TidemarkError {
  return new TidemarkError(
    "AGENT_NOT_RUNNING",
    `everything up to offset ${offset} is in the log, but no replica is known to ask`,
    {
      hint: "Give --standby DIR when the replica runs on this host; on its own host compare this offset with what `tidemark status` shows.",
    },
  );
}
