/** Child processes of the benchmark: started, awaited, measured, always stopped. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";

export class Child implements AsyncDisposable {
  readonly #process: ChildProcess;
  #output = "";
  #errors = "";

  constructor(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#process = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
    this.#process.stdout?.setEncoding("utf8").on("data", (text: string) => (this.#output += text));
    this.#process.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#errors += text));
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  get output(): string {
    return this.#output;
  }

  get errors(): string {
    return this.#errors;
  }

  /** Resolves when the output holds `text`. */
  async says(text: string, withinMs = 60_000): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (!this.#output.includes(text)) {
      if (this.#process.exitCode !== null || performance.now() > deadline) {
        throw new Error(`no "${text}" from ${this.#process.spawnargs.join(" ")}:\n${this.#output}${this.#errors}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Its output, when it has ended by itself. */
  async ended(): Promise<string> {
    const [code] = this.#process.exitCode === null ? await once(this.#process, "close") : [this.#process.exitCode];
    if (code !== 0)
      throw new Error(`${this.#process.spawnargs.join(" ")} ended with ${String(code)}:\n${this.#errors}`);
    return this.#output;
  }

  get hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  /** Asks it to end and waits until it has. */
  async stop(): Promise<void> {
    if (this.hasEnded) return;
    const gone = once(this.#process, "close");
    this.#process.kill("SIGTERM");
    const killer = setTimeout(() => this.#process.kill("SIGKILL"), 20_000);
    await gone;
    clearTimeout(killer);
  }

  async kill9(): Promise<void> {
    if (this.hasEnded) return;
    const gone = once(this.#process, "close");
    this.#process.kill("SIGKILL");
    await gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

const here = import.meta.dirname;
const root = path.join(here, "..", "..");

/** One of the programs beside this file. */
export function program(name: string, args: readonly string[]): Child {
  return new Child(process.execPath, [path.join(here, name), ...args]);
}

/** As it is installed from the package, with what the first line of the program says: compiled. From the sources Node strips the types, which takes memory. */
export function tidemark(args: readonly string[]): Child {
  const main = path.join(root, "dist", "cli", "main.js");
  return new Child(process.execPath, ["--max-semi-space-size=2", main, ...args], { MALLOC_ARENA_MAX: "2" });
}

/** What a command of it printed. */
export async function tidemarkOutput(args: readonly string[]): Promise<string> {
  await using command = tidemark(args);
  return await command.ended();
}

/** The program itself, not npm's wrapper: so that what is measured is Litestream alone. */
export function litestream(args: readonly string[]): Child {
  const directory = path.join(
    root,
    ".bench",
    "node_modules",
    "@flydotio",
    `litestream-${process.platform}-${process.arch}`,
  );
  return new Child(path.join(directory, "litestream"), args);
}

export interface Usage {
  readonly cpuMs: number;
  readonly rssBytes: number;
  readonly peakRssBytes: number;
}

const CLOCK_TICK_MS = 10;
const PAGE_BYTES = 4096;

/** Processor time used so far and resident memory, from /proc (Linux). */
export function usageOf(pid: number): Usage {
  const peakKiB = /VmHWM:\s*(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  const fields = fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return {
    cpuMs: (Number(fields[11]) + Number(fields[12])) * CLOCK_TICK_MS,
    rssBytes: Number(fields[21]) * PAGE_BYTES,
    peakRssBytes: Number(peakKiB) * 1024,
  };
}
