import { spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";

import { waitFor, within } from "../wait.ts";

const STOP_TIMEOUT_MS = 20_000;

export interface ProgramExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A process that a test started and ends: its output by lines, its exit. Kills it at the end of the scope. */
export class Program implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly exited: Promise<ProgramExit>;
  readonly child: ChildProcess;
  readonly #what: string;
  readonly #waiting = new Map<number, (line: string) => void>();
  #errors = "";
  #exit: ProgramExit | undefined;

  constructor(command: readonly [string, ...string[]], env: Record<string, string> = {}) {
    const [file, ...args] = command;
    this.#what = args[0] ?? file;
    this.child = spawn(file, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
    const { stdout, stderr, stdin } = this.child;
    if (!stdout || !stderr || !stdin) throw new Error("a program has pipes");
    createInterface(stdout).on("line", (line) => {
      this.lines.push(line);
      this.#waiting.get(this.lines.length - 1)?.(line);
    });
    stderr.on("data", (data: Buffer) => (this.#errors = (this.#errors + data.toString()).slice(-20_000)));
    stdin.on("error", () => undefined);
    this.exited = new Promise((resolve, reject) => {
      this.child.on("error", reject);
      this.child.on("close", (code, signal) => {
        this.#exit = { code, signal };
        resolve(this.#exit);
      });
    });
    this.exited.catch(() => undefined);
  }

  /** What it wrote to stderr, the last 20,000 characters. */
  get errors(): string {
    return this.#errors;
  }

  get running(): boolean {
    return this.#exit === undefined;
  }

  /** Line `index` (0-based) of the output, as soon as it is there. */
  async nextLine(index: number): Promise<string> {
    return this.lines[index] ?? new Promise((resolve) => this.#waiting.set(index, resolve));
  }

  /** Waits for a line that satisfies `accept`. */
  async line(what: string, accept: (line: string) => boolean, timeoutMs?: number): Promise<string> {
    return waitFor(
      `${this.#what}: ${what}`,
      () => {
        const found = this.lines.find(accept);
        if (found === undefined && !this.running) throw new Error(`it ended: ${this.#errors}`);
        return found;
      },
      timeoutMs === undefined ? {} : { timeoutMs },
    );
  }

  /** Sends `signal` and waits for the end. */
  async end(signal: NodeJS.Signals, timeoutMs = STOP_TIMEOUT_MS): Promise<ProgramExit> {
    if (this.running) this.child.kill(signal);
    return within(`${this.#what} ends on ${signal}`, timeoutMs, this.exited);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }
}

/** Ends a program that prints its report as its last line when asked to stop. */
export async function reportOf<Report>(program: Program): Promise<Report> {
  const { code } = await program.end("SIGTERM");
  const last = program.lines.at(-1);
  if (code !== 0 || last === undefined) throw new Error(`it failed with ${code}: ${program.errors}`);
  return JSON.parse(last) as Report;
}
