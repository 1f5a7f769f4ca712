import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { once } from "node:events";

/** A child process whose output is kept, for tests. */
export class Process {
  readonly child: ChildProcess;
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  #output = "";
  #errors = "";

  constructor(command: string, args: readonly string[], options: Pick<SpawnOptions, "cwd" | "env"> = {}) {
    this.child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => (this.#output += text));
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#errors += text));
    this.exited = once(this.child, "close").then(([code, signal]) => ({ code, signal }));
  }

  get output(): string {
    return this.#output;
  }

  get errors(): string {
    return this.#errors;
  }

  async stop(): Promise<string> {
    this.child.kill("SIGTERM");
    await this.exited;
    return this.#output;
  }

  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.exited;
  }
}
