import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import type { Config } from "../config/config.ts";
import { sleep } from "../runtime/clock.ts";

/** A lock process that was killed is followed by another after this long. */
const AGAIN_MS = 100;

export interface LockRequest {
  readonly paths: readonly string[];
  readonly patterns: Config["patterns"];
}

/** What is locked just now. */
export interface LockReport {
  readonly held: number;
  readonly waiting: readonly { readonly path: string; readonly problem: string }[];
}

/** Holds SQLite's write lock of every database of a set, those that appear meanwhile too, until it is disposed of. */
export class WriteLock implements AsyncDisposable {
  readonly #request: LockRequest;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #report: LockReport | undefined;

  constructor({ databases, patterns }: Pick<Config, "databases" | "patterns">) {
    this.#request = { paths: databases.map(({ path }) => path), patterns };
    this.#done = this.#keepRunning();
  }

  /** Undefined until every database was tried once. */
  get report(): LockReport | undefined {
    return this.#report;
  }

  async #keepRunning(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const child = start();
      const kill = (): void => void child.kill("SIGKILL");
      signal.addEventListener("abort", kill, { once: true });
      child.on("message", (report) => (this.#report = report as LockReport));
      child.send(this.#request, () => undefined);
      await once(child, "exit").catch(() => undefined);
      signal.removeEventListener("abort", kill);
      this.#report = undefined;
      await sleep(AGAIN_MS, signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }
}

function start(): ChildProcess {
  // From a checkout Node runs the sources, from the package the compiled files.
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const program = fileURLToPath(new URL(`./lock-process.${extension}`, import.meta.url));
  return fork(program, { execArgv: [], stdio: ["ignore", "ignore", "ignore", "ipc"] });
}
