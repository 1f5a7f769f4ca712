import type { Command } from "commander";

import type { Settings } from "../config/load-config.ts";
import { formatDuration } from "../config/units.ts";
import { shownStandby } from "../log/watch-standbys.ts";
import { requireCount, type SyncReport } from "../observe/sync-control.ts";
import { agentNotRunning } from "../observe/control-client.ts";
import type { Clock } from "../runtime/clock.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { agentPlaces, askFirst } from "./ask-agents.ts";
import { type Cli, oneShot } from "./cli.ts";
import { durationOption, type SetOptions, setCommand, settingsFor } from "./set-options.ts";

/** So often it says who is missing. */
const TELL_MS = 2000;
const ANSWER_MS = 5000;

interface SyncOptions extends SetOptions {
  readonly applied?: true | number;
  readonly timeout: number;
}

type Synced = Omit<SyncReport, "ok">;

export function syncCommand(cli: Cli): Command {
  return setCommand({
    name: "sync",
    summary: "return when every commit made before this call is in the log",
    description: [
      "Returns when every commit made before this call, and every file, is in the log, with --applied also on the standby of this host. Asks the running agents.",
      "--applied N waits for N standbys, on whatever hosts, and says who is missing: it asks the primary's agent, so give it on the primary's host.",
    ].join("\n"),
    examples: [
      "tidemark sync --standby /mnt/standby",
      "tidemark sync --applied -c tidemark.yml && ./deploy",
      "tidemark sync --applied 2 --timeout 10s -c tidemark.yml",
    ],
  })
    .option("--applied [n]", "wait until the standby has them too, or n standbys of the set", countOption)
    .option("--timeout <duration>", "how long to wait", durationOption, 60_000)
    .action((options: SyncOptions) => oneShot(cli, () => sync(cli, options)));
}

/** For commander. */
function countOption(text: string): number {
  return requireCount(Number(text));
}

async function sync(cli: Cli, options: SyncOptions): Promise<void> {
  const settings = await settingsFor(cli, "client", options);
  const { applied = false, timeout: timeoutMs } = options;
  const { clock, signal } = cli;
  const onMissing = (text: string): void => cli.note(`still waiting: ${text}`);
  const synced =
    typeof applied === "number"
      ? await syncStandbys(settings, { count: applied, timeoutMs, clock, signal, onMissing })
      : await syncAgents(settings, { applied, timeoutMs, clock, signal });
  const { standbys } = synced;
  const who = standbys ? `on ${standbys.map(shownStandby).join(", ")}` : "on the standby";
  const where = synced.applied ? `in the log and ${who}` : "in the log";
  const text = `everything up to offset ${synced.offset} is ${where} (${formatDuration(synced.durationMs)})`;
  await cli.print(options.json ? JSON.stringify(synced) : text + exceptFor(synced.without));
}

interface StandbysOptions {
  readonly count: number;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onMissing: (text: string) => void;
}

/** Asks the primary's agent, again and again: in between it says who is missing. @throws AGENT_NOT_RUNNING, TIMEOUT */
async function syncStandbys(
  settings: Places,
  { count, timeoutMs, clock, signal, onMissing }: StandbysOptions,
): Promise<Synced & { readonly durationMs: number }> {
  const beganMs = clock.monotonic();
  const spent = (): number => Math.round(clock.monotonic() - beganMs);
  const { offset } = await syncAgents(settings, { applied: false, timeoutMs, clock, signal });
  for (;;) {
    const leftMs = Math.max(1, timeoutMs - spent());
    const sliceMs = leftMs < 1.5 * TELL_MS ? leftMs : TELL_MS;
    const body = { applied: count, offset, timeoutMs: sliceMs };
    const request = { method: "POST", path: "/sync", body, timeoutMs: sliceMs + ANSWER_MS, signal } as const;
    try {
      return { ...((await askFirst(agentPlaces(settings), request)) as Synced), durationMs: spent() };
    } catch (error) {
      if (!hasCode(error, "TIMEOUT") || sliceMs === leftMs) throw error;
      onMissing(error.message);
    }
  }
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
