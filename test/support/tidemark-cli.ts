import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";
import { resolve } from "node:path";

const MAIN = resolve(import.meta.dirname, "../../src/cli/main.ts");
const DEFAULT_TIMEOUT_MS = 60_000;

export interface CliOptions {
  /** Added to this process's environment; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly timeoutMs?: number;
  /** Root loses what lets it read and write everything, so that permissions count for it too. */
  readonly unprivileged?: boolean;
  /** What the shell that starts it allows. */
  readonly limits?: { readonly openFiles: number };
}

export interface CliResult {
  /** 128 + signal number when a signal ended it, as a shell says it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningTidemark extends AsyncDisposable {
  readonly child: ChildProcess;
  /** Everything it wrote so far. */
  readonly output: { stdout: string; stderr: string };
  readonly exited: Promise<CliResult>;
  /** Resolves with the line `ready …` (or the JSON line with `"ready":true`); rejects when it ends before, or in time. */
  waitReady(timeoutMs?: number): Promise<string>;
  /** SIGTERM, then its end. */
  stop(): Promise<CliResult>;
  kill9(): Promise<CliResult>;
}

/** The real command line, as a process of its own, to its end. */
export async function runTidemark(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const running = startTidemark(args, options);
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const limit = new AbortController();
  const timedOut = wait(timeoutMs, "late" as const, { signal: limit.signal }).catch(() => "done" as const);
  const first = await Promise.race([running.exited, timedOut]);
  limit.abort();
  if (typeof first !== "string") return first;
  const { stdout, stderr } = await running.kill9();
  throw new Error(`tidemark ${args.join(" ")} still ran after ${timeoutMs} ms\n${stdout}\n${stderr}`);
}

/** An agent, or any command that a test wants to watch or to kill. */
export function startTidemark(args: readonly string[], options: CliOptions = {}): RunningTidemark {
  const [command = "", ...before] = commandFor(options);
  const child = spawn(command, [...before, MAIN, ...args], {
    cwd: options.cwd,
    env: environment(options.env ?? {}),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { stdout: "", stderr: "" };
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  const ready = watchReady(child, output);
  const exited = new Promise<CliResult>((done, failed) => {
    child.once("error", failed);
    child.once("close", (code, signal) => done({ code: code ?? (signal === "SIGKILL" ? 137 : 143), ...output }));
  });
  const end = async (signal: NodeJS.Signals): Promise<CliResult> => {
    child.kill(signal);
    return exited;
  };
  return {
    child,
    output,
    exited,
    waitReady: async (timeoutMs = DEFAULT_TIMEOUT_MS) => readyOrError({ ready, exited, timeoutMs, args, output }),
    stop: () => end("SIGTERM"),
    kill9: () => end("SIGKILL"),
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null) await end("SIGKILL");
    },
  };
}

function commandFor({ unprivileged = false, limits }: CliOptions): string[] {
  if (limits) return ["prlimit", `--nofile=${limits.openFiles}:${limits.openFiles}`, process.execPath];
  if (!unprivileged || process.geteuid?.() !== 0) return [process.execPath];
  return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", process.execPath];
}

function environment(added: Readonly<Record<string, string | undefined>>): NodeJS.ProcessEnv {
  const merged = { ...process.env, NODE_NO_WARNINGS: "1", TIDEMARK_LOG: undefined, ...added };
  return Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== undefined));
}

function watchReady(child: ChildProcess, output: { stdout: string }): Promise<string> {
  return new Promise((found) => {
    if (!child.stdout) return;
    createInterface(child.stdout).on("line", (line) => {
      output.stdout += `${line}\n`;
      if (line.startsWith("ready") || line.includes('"ready":true')) found(line);
    });
  });
}

interface Waiting {
  readonly ready: Promise<string>;
  readonly exited: Promise<CliResult>;
  readonly timeoutMs: number;
  readonly args: readonly string[];
  readonly output: { readonly stdout: string; readonly stderr: string };
}

async function readyOrError({ ready, exited, timeoutMs, args, output }: Waiting): Promise<string> {
  const limit = new AbortController();
  const late = wait(timeoutMs, undefined, { signal: limit.signal }).then(
    () => `was not ready within ${timeoutMs} ms`,
    () => "",
  );
  const ended = exited.then(({ code }) => `ended with exit code ${code} before it was ready`);
  const first = await Promise.race([ready.then((line) => ({ line })), late, ended]);
  limit.abort();
  if (typeof first === "object") return first.line;
  throw new Error(`tidemark ${args.join(" ")} ${first}\n${output.stdout}\n${output.stderr}`);
}

/** The last line of JSON in what a command wrote: its answer on stdout, its error on stderr. */
export function lastJson(text: string): Record<string, unknown> {
  const line = text.trim().split("\n").at(-1) ?? "";
  return JSON.parse(line) as Record<string, unknown>;
}

/** What a command that was refused ended with, and its error's code. */
export function codeOf({ code, stderr }: Pick<CliResult, "code" | "stderr">): unknown[] {
  return [code, lastJson(stderr)["code"]];
}
