import type { LogConfig } from "./config/config.ts";
import type { ChangeLog } from "./log/change-log.ts";
import { openEmbeddedLog } from "./log/embedded-log.ts";
import { openJetStreamLog } from "./log/jetstream-log.ts";
import { hasCode, type TidemarkError } from "./runtime/errors.ts";
import { retry } from "./runtime/retry.ts";

export interface OpenLogOptions {
  readonly log: LogConfig;
  readonly set: string;
  readonly mode: "write" | "read";
  readonly onProblem?: (error: TidemarkError) => void;
}

/** One attempt, for commands that end. @throws LOG_UNREACHABLE, LOG_DENIED, LOG_FOREIGN, AGENT_RUNNING */
export async function openLog({ log, ...options }: OpenLogOptions): Promise<ChangeLog> {
  switch (log.kind) {
    case "embedded":
      return openEmbeddedLog({ directory: log.directory, ...options });
    case "nats":
      return openJetStreamLog({ config: log, ...options });
    default:
      return log satisfies never;
  }
}

export interface OpenLogPatientlyOptions extends OpenLogOptions {
  readonly signal: AbortSignal;
  readonly onRetry: (error: TidemarkError, delayMs: number) => void;
}

/**
 * For agents: waits out a log that is away or full, with back-off; other faults are the user's to mend and thrown.
 * Undefined when `signal` aborted meanwhile.
 */
export async function openLogPatiently({
  signal,
  onRetry,
  ...options
}: OpenLogPatientlyOptions): Promise<ChangeLog | undefined> {
  const attempt = async (): Promise<{ log: ChangeLog } | { fatal: unknown }> => {
    try {
      return { log: await openLog(options) };
    } catch (error) {
      if (hasCode(error, "LOG_UNREACHABLE", "LOG_FULL")) throw error;
      return { fatal: error };
    }
  };
  try {
    const opened = await retry(attempt, { signal, onRetry });
    if ("fatal" in opened) throw opened.fatal;
    return opened.log;
  } catch (error) {
    if (signal.aborted && hasCode(error, "LOG_UNREACHABLE", "LOG_FULL")) return undefined;
    throw error;
  }
}
