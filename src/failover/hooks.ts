import { spawn } from "node:child_process";
import { once } from "node:events";

import type { Logger } from "pino";

import { sleep } from "../runtime/clock.ts";

/** What a hook wrote is told up to here. */
const OUTPUT_CHARACTERS = 4000;

/** What a hook learns, as TIDEMARK_SET, TIDEMARK_EPOCH, TIDEMARK_OFFSET, TIDEMARK_REASON in its environment. */
export interface HookFacts {
  readonly set: string;
  readonly epoch: number;
  readonly offset: number;
  readonly reason: string;
}

export interface HookOptions {
  readonly facts: HookFacts;
  /** Of each; then all of its processes are killed. */
  readonly timeoutMs: number;
  readonly logger: Logger;
}

export interface HookResult {
  readonly command: string;
  readonly ok: boolean;
  /** `exit code 1`, `killed after 30000 ms` … */
  readonly outcome: string;
}

/** Runs commands one after the other. One that fails is told and does not keep the next from running. */
export async function runHooks(commands: readonly string[], options: HookOptions): Promise<HookResult[]> {
  const results: HookResult[] = [];
  for (const command of commands) {
    const { output, ...result } = await runHook(command, options);
    const { logger } = options;
    if (result.ok) logger.info({ command, output }, "hook done");
    else logger.error({ command, output }, `hook failed: ${result.outcome}`);
    results.push(result);
  }
  return results;
}

async function runHook(
  command: string,
  { facts, timeoutMs }: HookOptions,
): Promise<HookResult & { readonly output: string }> {
  // A process group of its own: what the shell started ends with it.
  const child = spawn("/bin/sh", ["-c", command], {
    detached: true,
    env: { ...process.env, ...environmentOf(facts) },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const collect = (text: string): void => void (output = (output + text).slice(-OUTPUT_CHARACTERS));
  child.stdout.setEncoding("utf8").on("data", collect);
  child.stderr.setEncoding("utf8").on("data", collect);
  const limit = new AbortController();
  // Its end, not that of its output: a daemon that it started may keep that open.
  const ended = once(child, "exit").then(
    ([code, signal]) => outcomeOf(code as number | null, String(signal)),
    (error: unknown) => ({ ok: false, outcome: error instanceof Error ? error.message : String(error) }),
  );
  const late = sleep(timeoutMs, limit.signal).then(() => ({ ok: false, outcome: `killed after ${timeoutMs} ms` }));
  const result = await Promise.race([ended, late]);
  limit.abort();
  if (child.exitCode === null && child.pid !== undefined) kill(child.pid);
  await ended;
  return { command, ...result, output: output.trim() };
}

function outcomeOf(code: number | null, signal: string): { ok: boolean; outcome: string } {
  return { ok: code === 0, outcome: code === null ? `ended by ${signal}` : `exit code ${code}` };
}

function kill(group: number): void {
  try {
    process.kill(-group, "SIGKILL");
  } catch {
    // It ended by itself in this moment.
  }
}

function environmentOf({ set, epoch, offset, reason }: HookFacts): Record<string, string> {
  return {
    TIDEMARK_SET: set,
    TIDEMARK_EPOCH: String(epoch),
    TIDEMARK_OFFSET: String(offset),
    TIDEMARK_REASON: reason,
  };
}
