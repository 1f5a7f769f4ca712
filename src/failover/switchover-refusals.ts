import type { CaptureAgent } from "../capture/capture-agent.ts";
import type { Config, LogConfig } from "../config/config.ts";
import { formatDuration } from "../config/units.ts";
import { TidemarkError } from "../runtime/errors.ts";

// Why a switchover is refused, or undone.

/** @throws USAGE */
export function sharedLog({ log }: Config): LogConfig {
  if (log?.kind === "nats") return log;
  throw new TidemarkError(
    "USAGE",
    "the log is embedded: only one process can write it, so nobody can take over while this one runs",
    {
      hint: "Stop the application, `tidemark sync`, stop this agent, and give `tidemark promote` where the standby is. For a switchover in one step keep the log in NATS.",
    },
  );
}

/** @throws NOT_CAPTURED: what was committed there, or changed, would be nowhere else */
export function requireAllCaptured(agent: CaptureAgent): void {
  const { databases, files } = agent.status();
  const missing = [
    ...databases.filter(({ state }) => state === "waiting" || state === "starting" || state === "copying"),
    ...files.filter(({ state }) => state !== "following"),
  ].map(({ name, state }) => `${name} (${state})`);
  if (missing.length === 0) return;
  throw new TidemarkError("NOT_CAPTURED", `not everything is captured just now: ${missing.join(", ")}`, {
    hint: "See `tidemark status`. --force hands over without what is not captured.",
  });
}

export function notCapturing(): TidemarkError {
  return new TidemarkError("AGENT_NOT_RUNNING", "the agent does not capture just now", {
    hint: "`tidemark status` tells what it waits for.",
  });
}

export function notLocked(
  waiting: readonly { readonly path: string; readonly problem: string }[],
  timeoutMs: number,
): TidemarkError {
  const which = waiting.map(({ path, problem }) => `${path} (${problem})`).join(", ");
  return new TidemarkError(
    "DATABASE_BUSY",
    `the write lock was not to be had within ${formatDuration(timeoutMs)}: ${which === "" ? "no database was tried yet" : which}`,
    {
      hint: "The application keeps a transaction open. It goes on here; try again when it has ended, or stop the application.",
    },
  );
}

export function notTaken(to: string, { timeoutMs }: { readonly timeoutMs: number }): TidemarkError {
  return new TidemarkError(
    "TIMEOUT",
    `${to} did not take over within ${formatDuration(timeoutMs)}; it cannot any more, and this host goes on as the primary`,
    {
      hint: "See the log of the replica there; it may need the writer's rights at the NATS server, and the recipients of an encrypted log.",
    },
  );
}

export function tooSlow(timeoutMs: number): TidemarkError {
  return new TidemarkError(
    "TIMEOUT",
    `it took longer than ${formatDuration(timeoutMs)} to bring everything into the log`,
    { hint: "The application goes on here. Give it longer with --timeout, or choose a quieter moment." },
  );
}
