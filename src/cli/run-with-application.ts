import fs from "node:fs";

import type { Command } from "commander";

import type { AgentPart } from "../observe/status-report.ts";
import { EXIT, TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { aborted, sleep } from "../runtime/clock.ts";
import type { Application } from "../compose/application.ts";
import type { Cli } from "./cli.ts";
import { readySource } from "./ready-source.ts";
import { type AgentFlags, beginAgents, type BegunAgents } from "./run-agent.ts";
import { agentConfig, durationOption } from "./set-options.ts";
import { syncAgents } from "./sync.ts";

/** What is handed on to the application; SIGINT and SIGTERM too. */
const FORWARDED = ["SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const;
/** How long an application may take to end that must not go on. */
const GRACE_MS = 10_000;
/** Between two looks whether capture has found what was made last. */
const LOOK_MS = 100;

export interface ExecFlags extends AgentFlags {
  readonly exec?: string;
  readonly restoreIfMissing?: boolean;
  readonly lastSync?: number;
}

export function withExecOptions(command: Command): Command {
  return command
    .option(
      "--exec <command>",
      "run this, by /bin/sh, once everything is captured, hand signals on to it, and end with its exit code",
    )
    .option(
      "--restore-if-missing",
      "with --exec: databases that are not there are restored first, newest point of repository or log; with nothing to restore from, begin with nothing",
    )
    .option(
      "--last-sync <duration>",
      "with --exec: how long what the application wrote last may take to be handed in (default: 20s)",
      durationOption,
    );
}

/** No application without capture: it starts when everything is captured, and ends when capture has failed for good. */
export async function runWithApplication(
  cli: Cli,
  role: AgentPart["role"],
  flags: ExecFlags & { readonly exec: string },
): Promise<void> {
  const given = await agentConfig(cli, role, flags);
  if (flags.dryRun)
    throw new TidemarkError("USAGE", "--exec and --dry-run exclude each other", { hint: "Leave one out." });
  cli.longRunning = true;
  const config = await readySource(cli, given, flags);
  const stop = new AbortController();
  const stopNow = (): void => stop.abort();
  if (cli.signal.aborted) return;
  cli.signal.addEventListener("abort", stopNow, { once: true });
  const begun = await beginAgents(cli, role, { flags, config, signal: stop.signal });
  await Promise.race([begun.agents.ready, begun.agents.done]);
  if (cli.signal.aborted) return begun.agents.done;
  const { Application, endFormer } = await import("../compose/application.ts");
  await endFormer(config.state, GRACE_MS).catch((error: unknown) => abandon(begun, stopNow, error));
  begun.logger.info({ command: flags.exec }, "everything is captured: starting the application");
  const application = new Application(flags.exec, config.state);
  const forward = (signal: NodeJS.Signals): void => application.signal(signal);
  cli.onSignal = forward;
  for (const signal of FORWARDED) process.on(signal, forward);
  const code = await endOf(application, begun);
  // Once more now means at once.
  cli.onSignal = undefined;
  const handedIn = await handIn(cli, { begun, config, role, limitMs: flags.lastSync ?? 20_000 });
  stop.abort();
  await begun.agents.done;
  cli.exitCode = code === 0 && !handedIn ? EXIT.failed : code;
}

async function abandon({ agents }: BegunAgents, stop: () => void, error: unknown): Promise<never> {
  stop();
  await agents.done.catch(() => undefined);
  throw error;
}

/** Its exit code. @throws what made capture fail for good, when the application has been ended for it */
async function endOf(application: Application, { agents, logger }: BegunAgents): Promise<number> {
  const failed = agents.done.then(
    () => undefined,
    (error: unknown) => toTidemarkError(error),
  );
  const first = await Promise.race([application.ended, failed]);
  if (typeof first === "number") return first;
  logger.error({ code: first?.code }, "nothing is captured any more: ending the application");
  await application.end(GRACE_MS);
  if (first) throw first;
  return EXIT.failed;
}

interface HandIn {
  readonly begun: BegunAgents;
  readonly config: Awaited<ReturnType<typeof agentConfig>>;
  readonly role: AgentPart["role"];
  readonly limitMs: number;
}

/** What the application wrote last. The archive stores the rest as it stops. */
async function handIn(cli: Cli, { begun, config, role, limitMs }: HandIn): Promise<boolean> {
  const { logger } = begun;
  const { clock, signal } = cli;
  const untilMs = clock.monotonic() + limitMs;
  try {
    for (;;) {
      const timeoutMs = Math.max(1, Math.ceil(untilMs - clock.monotonic()));
      const options = { applied: role === "run", timeoutMs, clock, signal };
      const { offset, applied, without = [] } = await Promise.race([syncAgents(config, options), interrupted(signal)]);
      const unseen = config.databases.filter(({ name, path }) => without.includes(name) && fs.existsSync(path));
      if (unseen.length === 0) {
        logger.info({ offset, applied, without }, "what the application wrote last is handed in");
        return true;
      }
      // Made so shortly before the end that capture has not come to it.
      if (clock.monotonic() > untilMs) throw notCaptured(unseen.map(({ name }) => name));
      await sleep(LOOK_MS, signal);
    }
  } catch (error) {
    const { code, message } = toTidemarkError(error);
    logger.error({ code }, `what the application wrote last is in its files only, the next start goes on: ${message}`);
    return false;
  }
}

function notCaptured(names: readonly string[]): TidemarkError {
  return new TidemarkError("TIMEOUT", `${names.join(", ")} could not be captured in time`, {
    hint: "Start again: it goes on. A longer --last-sync leaves more time.",
  });
}

async function interrupted(signal: AbortSignal): Promise<never> {
  await aborted(signal);
  throw new TidemarkError("INTERRUPTED", "interrupted while it was handed in", { hint: "Start again." });
}
