/** Child processes of the quickstart: started with their output read line by line, and always stopped. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** Between asking a process to stop and killing it: an agent first puts everything it captured into the log. */
const STOP_GRACE_MS = 10_000;

export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Running extends AsyncDisposable {
  readonly ended: Promise<Ending>;
  /** The last lines it wrote on stderr. */
  readonly complaint: () => string;
  /** Closes its standard input and, for an agent, sends SIGTERM; resolves when it is gone. */
  readonly stop: () => Promise<Ending>;
}

export interface Start {
  readonly command: string;
  readonly args: readonly string[];
  readonly onLine?: (line: string) => void;
  /** How it is asked to stop: a script of ours ends with its input, an agent on SIGTERM. */
  readonly stopWith: "end of input" | "SIGTERM";
}

export function start({ command, args, onLine, stopWith }: Start): Running {
  // Its own process group: Ctrl-C reaches only us, and we stop the others in order.
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], detached: true });
  const complaints = keepLines(child);
  if (child.stdout) createInterface(child.stdout).on("line", (line) => onLine?.(line));
  child.stdin?.on("error", () => undefined);
  const ended = endOf(child);
  const stop = async (): Promise<Ending> => {
    if (stopWith === "SIGTERM") child.kill("SIGTERM");
    child.stdin?.end();
    const killer = setTimeout(() => child.kill("SIGKILL"), STOP_GRACE_MS);
    const ending = await ended;
    clearTimeout(killer);
    return ending;
  };
  return {
    ended,
    complaint: () => readable(complaints),
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

function endOf(child: ChildProcess): Promise<Ending> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
}

function keepLines(child: ChildProcess): string[] {
  const lines: string[] = [];
  if (child.stderr)
    createInterface(child.stderr).on("line", (line) => {
      lines.push(line);
      if (lines.length > 20) lines.shift();
    });
  return lines;
}

/** What was meant for people; of a JSON log, when there is nothing else, its messages. */
function readable(lines: readonly string[]): string {
  const plain = lines.filter((line) => !line.startsWith("{"));
  return (plain.length > 0 ? plain : lines.map(messageOf)).join("\n");
}

function messageOf(line: string): string {
  try {
    return (JSON.parse(line) as { msg?: string }).msg ?? line;
  } catch {
    return line;
  }
}

export interface Finished {
  readonly code: number | null;
  readonly output: readonly string[];
  readonly complaint: string;
}

/** Runs a command to its end; killed when `signal` aborts. */
export async function run(command: string, args: readonly string[], signal: AbortSignal): Promise<Finished> {
  const output: string[] = [];
  await using child = start({ command, args, onLine: (line) => output.push(line), stopWith: "SIGTERM" });
  const aborted = new Promise<never>((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
  const { code } = await Promise.race([child.ended, aborted]);
  return { code, output, complaint: child.complaint() };
}
