import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import { TidemarkError } from "../runtime/errors.ts";
import { requireGoingOn } from "./scan-log.ts";

export type CheckMode = "full" | "quick";

export interface CheckResult {
  /** false: SQLite found damage. */
  readonly sound: boolean;
  /** `ok`, what was found, or why it could not be checked. */
  readonly integrity: string;
  /** `ok`, `N violations`, or why it could not be checked. */
  readonly foreignKeys: string;
}

/**
 * SQLite's own opinion: integrity_check (full) or quick_check, and foreign_key_check. Leaves no -wal or -shm behind.
 * @throws INTERRUPTED
 */
export async function checkDatabase(file: string, mode: CheckMode, signal: AbortSignal): Promise<CheckResult> {
  requireGoingOn(signal);
  // From a checkout Node runs the sources, from the package the compiled files.
  const program = new URL(
    import.meta.url.endsWith(".ts") ? "./check-process.ts" : "./check-process.js",
    import.meta.url,
  );
  const child = fork(fileURLToPath(program), [file, mode], {
    execArgv: [],
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  const kill = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", kill, { once: true });
  let result: CheckResult | undefined;
  let complaint = "";
  child.on("message", (message) => (result = message as CheckResult));
  child.stderr?.on("data", (data: Buffer) => (complaint = (complaint + data.toString()).slice(-2000)));
  try {
    const [code, killedBy] = (await once(child, "close")) as [number | null, string | null];
    requireGoingOn(signal);
    if (result && code === 0) return result;
    throw failed(file, complaint.trim() || `it ended with ${killedBy ?? `code ${code}`}`);
  } finally {
    signal.removeEventListener("abort", kill);
  }
}

function failed(file: string, evidence: string): TidemarkError {
  return new TidemarkError("IO", `the check of ${file} could not run: ${evidence}`, {
    hint: "Look whether memory or processes are short on this machine, then restore again.",
  });
}
