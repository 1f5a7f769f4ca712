import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import { TidemarkError } from "../runtime/errors.ts";
import { requireGoingOn } from "./history.ts";

export type CheckMode = "full" | "quick";

export interface CheckRequest {
  readonly file: string;
  readonly mode: CheckMode;
}

export interface CheckResult {
  /** false: SQLite found damage. */
  readonly sound: boolean;
  /** `ok`, what was found, or why it could not be checked. */
  readonly integrity: string;
  /** `ok`, `N violations`, or why it could not be checked. */
  readonly foreignKeys: string;
}

/**
 * SQLite's own opinion of database files, from a process of its own: within a check SQLite cannot be interrupted, and
 * the command must stop at once when asked to. One process serves all files of a restore.
 */
export class DatabaseChecker implements Disposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown[]>;
  readonly #signal: AbortSignal;
  readonly #kill = (): void => void this.#child.kill("SIGKILL");
  #complaint = "";

  constructor(signal: AbortSignal) {
    requireGoingOn(signal);
    // From a checkout Node runs the sources, from the package the compiled files.
    const program = import.meta.url.endsWith(".ts") ? "./check-process.ts" : "./check-process.js";
    const path = fileURLToPath(new URL(program, import.meta.url));
    this.#child = fork(path, { execArgv: [], stdio: ["ignore", "ignore", "pipe", "ipc"] });
    this.#child.stderr?.on(
      "data",
      (data: Buffer) => (this.#complaint = (this.#complaint + data.toString()).slice(-2000)),
    );
    this.#ended = once(this.#child, "close");
    this.#ended.catch(() => undefined);
    this.#signal = signal;
    signal.addEventListener("abort", this.#kill, { once: true });
  }

  /**
   * integrity_check (full) or quick_check, and foreign_key_check. Leaves no -wal or -shm behind.
   * @throws INTERRUPTED
   */
  async check(request: CheckRequest): Promise<CheckResult> {
    const answered = Promise.withResolvers<CheckResult>();
    const answer = (message: unknown): void => answered.resolve(message as CheckResult);
    this.#child.once("message", answer);
    try {
      this.#child.send(request, () => undefined);
      const answerOrEnd = await Promise.race([answered.promise, this.#ended]);
      requireGoingOn(this.#signal);
      if (!Array.isArray(answerOrEnd)) return answerOrEnd;
      throw failed(request.file, this.#complaint.trim() || `it ended with ${answerOrEnd.join(" ")}`);
    } finally {
      this.#child.off("message", answer);
    }
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener("abort", this.#kill);
    this.#kill();
  }
}

function failed(file: string, evidence: string): TidemarkError {
  return new TidemarkError("IO", `the check of ${file} could not run: ${evidence}`, {
    hint: "Look whether memory or processes are short on this machine, then restore again.",
  });
}
