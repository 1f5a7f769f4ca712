import type { Command } from "commander";

import type { Settings } from "../config/load-config.ts";
import { formatDuration } from "../config/units.ts";
import { agentNotRunning } from "../observe/control-client.ts";
import type { Clock } from "../runtime/clock.ts";
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
  const { applied = false, timeout: timeoutMs } = options;
  const { clock, signal } = cli;
  const synced = await syncAgents(settings, { applied, timeoutMs, clock, signal });
  const where = synced.applied ? "in the log and on the standby" : "in the log";
  const text = `everything up to offset ${synced.offset} is ${where} (${formatDuration(synced.durationMs)})`;
  await cli.print(options.json ? JSON.stringify(synced) : text + exceptFor(synced.without));
}

type Places = Pick<Settings, "state" | "standby">;

/** Asks the agents of this host for it. @throws AGENT_NOT_RUNNING, TIMEOUT, and what they answer */
export async function syncAgents(
  settings: Places,
  options: {
    readonly applied: boolean;
    readonly timeoutMs: number;
    readonly clock: Clock;
    readonly signal: AbortSignal;
  },
): Promise<Synced & { readonly durationMs: number }> {
  const { applied, timeoutMs, clock, signal } = options;
  const beganMs = clock.monotonic();
  const asked = { method: "POST", path: "/sync", timeoutMs, signal } as const;
  const inLog = (await askFirst(agentPlaces(settings), { ...asked, body: { applied } })) as Synced;
  const leftMs = Math.max(1, timeoutMs - Math.round(clock.monotonic() - beganMs));
  const shown =
    applied && !inLog.applied ? await onStandby(settings, inLog.offset, { ...asked, timeoutMs: leftMs }) : inLog;
  const { without } = inLog;
  return { ...shown, ...(without && { without }), durationMs: Math.round(clock.monotonic() - beganMs) };
}

/** What a promise about all databases does not hold for. */
export function exceptFor(without: readonly string[] | undefined): string {
  return without === undefined ? "" : `, except ${without.join(", ")}: see \`tidemark status\``;
}

/** The capture and the replica are two processes: the replica is asked for the offset that the capture named. */
async function onStandby(
  settings: Places,
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
