import type { Environment } from "../config/config-file.ts";
import { type Clock, sleep, systemClock } from "../runtime/clock.ts";
import { EXIT, TidemarkError } from "../runtime/errors.ts";

/** How long a command that was interrupted may take to clean up. */
const CLEAN_UP_MS = 5000;

/** The process as a command sees it. */
export interface Cli {
  readonly environment: Environment;
  /** Where relative paths on the command line count from. */
  readonly directory: string;
  readonly clock: Clock;
  /** Aborts on SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  /** Instead of that. */
  onSignal?: ((signal: NodeJS.Signals) => void) | undefined;
  /** A line on stdout; resolves when the reader keeps up. */
  print(line: string): Promise<void>;
  /** A line for people on stderr. */
  note(line: string): void;
  /** The exit code, when the command ends without an error. */
  exitCode: number;
  /** An agent: goes on when nobody reads its stdout, and a signal ends it with 0. */
  longRunning: boolean;
}

export function createCli(): Cli {
  const interrupted = new AbortController();
  const cli: Cli = {
    environment: process.env,
    directory: process.cwd(),
    clock: systemClock,
    signal: interrupted.signal,
    print: (line) => write(process.stdout, `${line}\n`),
    note: (line) => void process.stderr.write(`${line}\n`),
    exitCode: EXIT.ok,
    longRunning: false,
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    if (cli.onSignal) return cli.onSignal(signal);
    if (interrupted.signal.aborted) process.exit(EXIT.interrupted);
    interrupted.abort();
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  // A pager that was closed, or `| head`, wants no more of it: that is no failure.
  process.stdout.on("error", () => {
    if (!cli.longRunning) process.exit(EXIT.ok);
  });
  process.stderr.on("error", () => undefined);
  return cli;
}

function write(stream: NodeJS.WriteStream, text: string): Promise<void> {
  return new Promise((resolve) => {
    stream.write(text, () => resolve());
  });
}

/** A command that ends by itself: interrupted, it may clean up for a while and then exits with 130. */
export async function oneShot(cli: Cli, work: () => Promise<void>): Promise<void> {
  const limit = new AbortController();
  const cleanUp = async (): Promise<void> => {
    await aborted(cli.signal);
    await sleep(CLEAN_UP_MS, limit.signal);
  };
  await Promise.race([work(), cleanUp()]);
  limit.abort();
  if (cli.signal.aborted) throw interruptedError();
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

export function interruptedError(): TidemarkError {
  return new TidemarkError("INTERRUPTED", "interrupted", { hint: "Run the command again; nothing is left half-done." });
}
