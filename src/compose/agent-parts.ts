import type { Logger } from "pino";

import type { CaptureAgent } from "../capture/capture-agent.ts";
import { startCapture } from "../capture/start-capture.ts";
import { type OpenLogOptions, openLogPatiently } from "../compose.ts";
import type { Config } from "../config/config.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { requireKeys } from "../log/open-record.ts";
import { type ArchiveAgent, startArchive } from "../replica/archive/archive-agent.ts";
import type { ReplicaAgent } from "../replica/replica-agent.ts";
import { newestEpoch } from "./newest-epoch.ts";
import { repositoriesToRead, repositoriesToWrite } from "./repositories.ts";
import { startReplica } from "../replica/start-replica.ts";
import { aborted, type Clock, sleep } from "../runtime/clock.ts";
import { hasCode, type TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";

/** An agent that ran this long before it failed begins again soon. */
const STEADY_MS = 60_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

export interface PartOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Ends the part gracefully. */
  readonly signal: AbortSignal;
  readonly onReady: () => void;
  /** Something is in the way that may pass by itself; with the pause before the next attempt, if there is one. */
  readonly onProblem: (error: TidemarkError, pauseMs?: number) => void;
}

function openPartLog(
  { config, signal, onProblem }: PartOptions,
  { mode, state }: Pick<OpenLogOptions, "mode" | "state">,
): Promise<ChangeLog | undefined> {
  const { log, set, encryption } = config;
  invariant(log !== undefined, "an agent has a log");
  return openLogPatiently({ log, set, encryption, mode, state, signal, onProblem, onRetry: onProblem });
}

export interface CapturePartOptions extends PartOptions {
  readonly takeover: boolean;
  readonly acceptEmpty: boolean;
  /** The log is there now: whoever reads it may open it. */
  readonly onLogOpened: () => void;
  /** From here on every commit is captured. */
  readonly onStarted?: () => void;
  /** Another host is the primary: from here on none is. */
  readonly onFenced?: () => void;
}

/** The capture of this process: its log, its agent, and beginning again. */
export class CapturePart {
  /** Stays after its end, for its last status. */
  agent: CaptureAgent | undefined;
  log: ChangeLog | undefined;
  readonly #options: CapturePartOptions;
  #wasReady = false;

  constructor(options: CapturePartOptions) {
    this.#options = options;
  }

  /** Captures until the signal; begins again after what a retry can heal, once it has worked before. */
  async run(): Promise<void> {
    const { clock, signal, onProblem } = this.#options;
    for (let pauseMs = FIRST_PAUSE_MS; !signal.aborted; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      const beganMs = clock.monotonic();
      try {
        return await this.#once();
      } catch (error) {
        const failure = toTidemarkError(error);
        const healable = failure.retryable && (this.#wasReady || isLogAway(failure));
        if (signal.aborted || !healable) throw failure;
        if (clock.monotonic() - beganMs > STEADY_MS) pauseMs = FIRST_PAUSE_MS;
        onProblem(failure, pauseMs);
      }
      await sleep(pauseMs, signal);
    }
  }

  async #once(): Promise<void> {
    const { config, logger, clock, signal, takeover, acceptEmpty, onLogOpened } = this.#options;
    this.agent = undefined;
    await using log = await openPartLog(this.#options, { mode: "write", state: config.state });
    if (!log) return;
    this.log = log;
    onLogOpened();
    try {
      this.agent = await startCapture({
        config,
        log,
        logger: logger.child({ part: "capture" }),
        clock,
        signal,
        takeover,
        acceptEmpty,
      });
      this.#options.onStarted?.();
      this.agent.ready.then(() => this.#ready(), ignore);
      await this.agent.done;
    } catch (error) {
      // Stopped while it waited for the log: nothing was captured, so nothing is missing.
      if (signal.aborted && !this.agent && isLogAway(error)) return;
      throw error;
    } finally {
      this.log = undefined;
    }
  }

  #ready(): void {
    this.#wasReady = true;
    this.#options.onReady();
  }
}

export interface ReplicaPartOptions extends PartOptions {
  /** The set is captured in this process, too: its keys are at hand. */
  readonly besideCapture: boolean;
  readonly reseed: boolean;
  /** The primary offers its place; without this the standby cannot be promoted. */
  readonly onOffered?: () => void;
  /** Whether the archive goes on when the standby has failed for good. */
  readonly goesOnWithout: (failure: TidemarkError) => boolean;
}

/** The replica of this process. It begins again by itself after what a retry can heal. */
export class ReplicaPart {
  agent: ReplicaAgent | undefined;
  archive: ArchiveAgent | undefined;
  log: ChangeLog | undefined;
  readonly #options: ReplicaPartOptions;
  /** Of the last log that was begun anew and followed. */
  #newEpoch = 0;

  constructor(options: ReplicaPartOptions) {
    this.#options = options;
  }

  /** Where the keys of the set are kept, when it is captured in this process too. */
  get #keptKeys(): string | undefined {
    return this.#options.besideCapture ? this.#options.config.state : undefined;
  }

  /** @throws what halted the standby */
  async run(): Promise<void> {
    for (let { reseed } = this.#options; ; reseed = false) {
      try {
        return await this.#once(reseed);
      } catch (error) {
        if (!hasCode(error, "LOG_RECREATED", "LOG_REGRESSED") || !(await this.#begunAnew())) throw error;
        this.#options.logger.warn(
          { epoch: this.#newEpoch },
          "the log was lost and begun anew by another host: following it",
        );
      }
    }
  }

  /** Whether what stands in the place of the log is one that goes on with it. */
  async #begunAnew(): Promise<boolean> {
    const { start } = (await newestEpoch(this.#options.config)) ?? {};
    if (start?.reason !== "new-log" || start.epoch <= this.#newEpoch) return false;
    this.#newEpoch = start.epoch;
    return true;
  }

  async #once(reseed: boolean): Promise<void> {
    const { config, logger, clock, signal, onReady, onOffered } = this.#options;
    const { set, standby: directory, replica } = config;
    invariant(directory !== undefined, "a replica has a standby");
    await using log = signal.aborted
      ? undefined
      : await openPartLog(this.#options, { mode: "read", state: this.#keptKeys });
    if (!log) return;
    this.log = log;
    try {
      // Before a reseed drops anything.
      await requireKeys(log);
      const child = logger.child({ part: "replica" });
      const repositories = repositoriesToRead(config, { clock, state: this.#keptKeys });
      const options = { set, directory, config: replica, log, logger: child, clock, signal, reseed, repositories };
      this.agent = await startReplica({ ...options, ...(onOffered && { onOffered }) });
      this.agent.ready.then(onReady, ignore);
      await using _ = this.#archive(this.agent, log);
      await this.#ended(this.agent);
    } finally {
      this.log = undefined;
    }
  }

  async #ended(agent: ReplicaAgent): Promise<void> {
    try {
      await agent.done;
    } catch (error) {
      if (!this.#options.goesOnWithout(toTidemarkError(error))) throw error;
      await aborted(this.#options.signal);
    }
  }

  /** Goes on until the replica has ended. */
  #archive(replica: ReplicaAgent, log: ChangeLog): AsyncDisposable {
    const { config, logger, clock } = this.#options;
    const stop = new AbortController();
    const archive = startArchive({
      ...config,
      repositories: repositoriesToWrite(config, { clock, log, state: this.#keptKeys }),
      standby: config.standby ?? "",
      log,
      replica,
      logger: logger.child({ part: "archive" }),
      clock,
      signal: stop.signal,
    });
    this.archive = archive;
    return {
      [Symbol.asyncDispose]: async () => {
        stop.abort();
        await archive.done;
      },
    };
  }
}

function isLogAway(error: unknown): boolean {
  return hasCode(error, "LOG_UNREACHABLE", "LOG_FULL");
}

/** What makes `ready` fail makes `done` fail too, and is told there. */
function ignore(): void {}
