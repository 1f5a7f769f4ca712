import type { Command } from "commander";

import { formatDuration } from "../config/units.ts";
import type { StatusReport } from "../observe/status-report.ts";
import type { SwitchoverReport, SwitchoverRequest } from "../observe/switchover-control.ts";
import { sleep } from "../runtime/clock.ts";
import { agentPlaces, askFirst } from "./ask-agents.ts";
import { type Cli, oneShot } from "./cli.ts";
import { durationOption, type SetOptions, setCommand, settingsFor } from "./set-options.ts";

/** For what is before and behind the application's wait: questions to standbys, undoing it. */
const ANSWER_MS = 10 * 60 * 1000;
const LOOK_MS = 200;

interface SwitchoverOptions extends SetOptions {
  readonly to?: string;
  readonly dryRun?: boolean;
  readonly force?: boolean;
  readonly timeout: number;
}

export function switchoverCommand(cli: Cli): Command {
  return setCommand({
    name: "switchover",
    summary: "hand the primary's place over to a standby; nothing is lost",
    description: [
      "Hands this primary's place over to a standby, as planned: keeps the application from writing (SQLITE_BUSY), brings everything into the log, and offers the place to the standby, which promotes itself and captures from then on. Nothing is lost. This host is fenced then: `tidemark rejoin` makes it a standby.",
      "Asks the running agent of the primary. When the standby does not take over within --timeout it cannot any more, and the application goes on here.",
      "Refused (exit code 6) before anything is changed when no standby answers that could take over. Files of trees cannot be locked: stop what writes them, or lose what it writes meanwhile.",
    ].join("\n"),
    examples: [
      "tidemark switchover -c tidemark.yml --dry-run",
      "tidemark switchover -c tidemark.yml",
      "tidemark switchover -c tidemark.yml --to db2.example.org --timeout 10s --json",
    ],
  })
    .option("--to <host|id>", "the standby that takes over (default: the first that answers)")
    .option("--dry-run", "say who would take over and how far it is; change nothing")
    .option("--force", "also to a standby that is behind or does not answer: the application waits for it")
    .option("--timeout <duration>", "how long the application may be kept from writing", durationOption, 30_000)
    .action((options: SwitchoverOptions) => oneShot(cli, () => switchover(cli, options)));
}

async function switchover(cli: Cli, options: SwitchoverOptions): Promise<void> {
  const places = agentPlaces(await settingsFor(cli, "client", options));
  const { to, force = false, dryRun = false, timeout: timeoutMs } = options;
  const body: SwitchoverRequest = { to, force, dryRun, timeoutMs };
  const request = { method: "POST", path: "/switchover", body, timeoutMs: timeoutMs + ANSWER_MS } as const;
  const done = new AbortController();
  const telling = dryRun || options.json ? undefined : tellStages(cli, places, done.signal);
  try {
    const report = (await askFirst(places, { ...request, signal: cli.signal })) as SwitchoverReport;
    await tell(cli, report, options.json === true);
  } finally {
    done.abort();
    await telling;
  }
}

/** What the agent is at, as it changes. */
async function tellStages(cli: Cli, places: readonly string[], signal: AbortSignal): Promise<void> {
  for (let told = ""; !signal.aborted;) {
    await sleep(LOOK_MS, signal);
    if (signal.aborted) return;
    const asked = { method: "GET", path: "/status", timeoutMs: 5000, signal } as const;
    const report = (await askFirst(places, asked).catch(() => undefined)) as StatusReport | undefined;
    const { reason = told, final = true } = report?.fence ?? {};
    if (!final && reason !== told) cli.note(reason);
    told = reason;
  }
}

async function tell(cli: Cli, report: SwitchoverReport, json: boolean): Promise<void> {
  if (json) return cli.print(JSON.stringify(report));
  const { epoch, offset, to, durationMs, pausedMs, captures, dryRun } = report;
  const who = `${to.host}:${to.standby} (${to.id})`;
  if (dryRun) {
    const far = to.behind === 0 ? "it has everything that is in the log" : `it is ${to.behind} events behind the log`;
    return cli.print(`${who} would take over: ${far} (${formatDuration(durationMs)})`);
  }
  await cli.print(
    `handed over to ${who}: epoch ${epoch}, offset ${offset}; nothing is lost (${formatDuration(durationMs)})`,
  );
  const paused = pausedMs === null ? "" : `; nothing could be written for ${formatDuration(pausedMs)}`;
  await cli.print(captures ? `it captures${paused}` : `it does not capture yet: see \`tidemark status\` there`);
  const then = captures ? "" : " when it captures";
  await cli.print(
    `this host is fenced: start the application there${then}, and \`tidemark rejoin\` here makes it a standby`,
  );
}
