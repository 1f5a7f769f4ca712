import fs from "node:fs";

import type { Logger } from "pino";

import type { CaptureAgent } from "../capture/capture-agent.ts";
import { preflight, requireSafeSqlite, setWalMode } from "../capture/sqlite/preflight.ts";
import { startCapture } from "../capture/start-capture.ts";
import { openLogPatiently } from "../compose.ts";
import type { Config } from "../config/config.ts";
import { standbyState } from "../config/load-config.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { agentHandlers, type LiveAgents } from "../observe/agent-control.ts";
import { startControlServer } from "../observe/control-server.ts";
import { requireRoomForCopy } from "../observe/copy-size.ts";
import type { AgentPart } from "../observe/status-report.ts";
import type { ReplicaAgent } from "../replica/replica-agent.ts";
import { startReplica } from "../replica/start-replica.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import { EXIT, hasCode, type TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";

/** After the capture of `run` has ended, its replica gets this long to apply the rest. */
const LAST_APPLY_MS = 5000;
/** An agent that ran this long before it failed begins again soon. */
const STEADY_MS = 60_000;
const FIRST_PAUSE_MS = 500;

export interface AgentOptions {
  readonly role: AgentPart["role"];
  readonly config: Config;
  readonly logger: Logger;
  readonly clock: Clock;
  /** A graceful stop. */
  readonly signal: AbortSignal;
  readonly takeover?: boolean;
  readonly reseed?: boolean;
}

export interface RunningAgents {
  /** Resolves when the first copy is in the log and the standby has it. Never settles when that does not come about. */
  readonly ready: Promise<void>;
  /** Resolves after a graceful stop; rejects with what stopped the agents, or halted the replica meanwhile. */
  readonly done: Promise<void>;
  readonly live: () => LiveAgents;
}

/**
 * Starts what `run`, `capture` and `replica` are made of, in this process, behind a control socket. What is wrong with the
 * databases is said before anything is made on disk.
 */
export async function startAgents(options: AgentOptions): Promise<RunningAgents> {
  const { role, config } = options;
  requireSafeSqlite();
  if (role !== "replica") checkSource(config);
  const agents = new Agents(options);
  await agents.open();
  return agents;
}

function checkSource(config: Config): void {
  requireRoomForCopy(config);
  for (const { path } of config.databases) {
    if (config.capture.setWal) setWalMode(path);
    preflight(path);
  }
}

class Agents implements RunningAgents {
  readonly ready: Promise<void>;
  readonly done: Promise<void>;
  readonly #options: AgentOptions;
  readonly #sockets = new AsyncDisposableStack();
  readonly #ready = Promise.withResolvers<void>();
  readonly #done = Promise.withResolvers<void>();
  /** Ends the capture: on the user's stop, or when the other part failed for good. */
  readonly #stopCapture = new AbortController();
  /** Ends the replica: in `run` after the capture. */
  readonly #stopReplica = new AbortController();
  /** Resolves when the capture has opened the log: it makes what the replica of `run` reads. */
  readonly #logMade = Promise.withResolvers<void>();
  /** Parts that are not ready yet. */
  readonly #waitsFor: Set<"capture" | "replica">;
  #capture: CaptureAgent | undefined;
  #replica: ReplicaAgent | undefined;
  /** The capture's own, or the replica's when there is no capture. */
  #log: ChangeLog | undefined;
  #started = false;
  #problem: TidemarkError | undefined;
  #halted: TidemarkError | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.ready = this.#ready.promise;
    this.done = this.#done.promise;
    this.#waitsFor = new Set(options.role === "run" ? ["capture", "replica"] : [options.role]);
    this.#stopReplica.signal.addEventListener("abort", () => this.#logMade.resolve(), { once: true });
    this.done.catch(() => undefined);
  }

  /** Claims the control sockets, then sets everything going. @throws AGENT_RUNNING */
  async open(): Promise<void> {
    const { role, config } = this.#options;
    if (role !== "capture" && config.standby !== undefined) fs.mkdirSync(config.standby, { recursive: true });
    try {
      for (const directory of this.#socketDirectories()) {
        this.#sockets.use(await startControlServer({ directory, handlers: agentHandlers(() => this.live()) }));
      }
    } catch (error) {
      await this.#sockets.disposeAsync();
      throw error;
    }
    this.#run().then(this.#done.resolve, this.#done.reject);
  }

  readonly live = (): LiveAgents => {
    const { config, clock, role } = this.#options;
    return {
      set: config.set,
      objectiveMs: config.objectives.rpoMs,
      clock,
      self: { role, pid: process.pid, state: this.#state(), problem: this.#problemNow() },
      capture: this.#capture,
      replica: this.#replica,
      log: this.#log,
    };
  };

  #state(): AgentPart["state"] {
    if (this.#options.signal.aborted) return "stopping";
    return this.#started ? "running" : "starting";
  }

  /** A log's trouble is over when nothing waits for it any more. */
  #problemNow(): string | null {
    const waiting = !this.#capture || this.#capture.status().lagMs > 1000;
    if (this.#halted) return this.#halted.message;
    return this.#problem && waiting && this.#options.role !== "replica" ? this.#problem.message : null;
  }

  /** `run` answers at both places at which somebody may look for it. */
  #socketDirectories(): Set<string> {
    const { role, config } = this.#options;
    const places = new Set<string>();
    if (role !== "replica") places.add(config.state);
    if (role !== "capture" && config.standby !== undefined) places.add(standbyState(config.standby));
    return places;
  }

  async #run(): Promise<void> {
    const { role, signal } = this.#options;
    const stop = (): void => (role === "replica" ? this.#stopReplica : this.#stopCapture).abort();
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    try {
      const parts = [
        role === "replica" ? undefined : this.#runCapture(),
        role === "capture" ? undefined : this.#runReplica(),
      ];
      const ended = await Promise.allSettled(parts);
      const failed = ended.find((one) => one.status === "rejected");
      if (failed) throw failed.reason;
    } finally {
      await this.#sockets.disposeAsync();
    }
    if (this.#halted) throw this.#halted;
  }

  async #runCapture(): Promise<void> {
    try {
      await this.#steadily(this.#stopCapture.signal, () => this.#captureOnce());
      if (this.#options.role === "run") await this.#applyTheRest();
    } finally {
      this.#stopReplica.abort();
    }
  }

  async #captureOnce(): Promise<void> {
    const { config, logger, clock, takeover } = this.#options;
    const { signal } = this.#stopCapture;
    this.#capture = undefined;
    await using log = await this.#openLog("write");
    if (!log) return;
    this.#log = log;
    this.#logMade.resolve();
    try {
      const child = logger.child({ part: "capture" });
      const agent = await startCapture({ config, log, logger: child, clock, signal, takeover: takeover ?? false });
      this.#capture = agent;
      agent.ready.then(
        () => this.#partReady("capture"),
        () => undefined,
      );
      await agent.done;
    } catch (error) {
      // Stopped while it waited for the log: nothing was captured, so nothing is missing.
      if (signal.aborted && !this.#capture && hasCode(error, "LOG_UNREACHABLE", "LOG_FULL")) return;
      throw error;
    } finally {
      this.#log = undefined;
    }
  }

  async #runReplica(): Promise<void> {
    try {
      await this.#replicaOnce();
    } catch (error) {
      const failure = toTidemarkError(error);
      // A mistake in the set-up ends `run` at once. A standby that has gone bad must not end the capture: it is what is left.
      const mistake = failure.exitCode === EXIT.usage || failure.exitCode === EXIT.refused;
      if (this.#options.role === "replica" || mistake) {
        this.#stopCapture.abort();
        throw failure;
      }
      this.#halted = failure;
      const { code, hint, message } = failure;
      this.#options.logger.error({ part: "replica", code, hint }, `the standby is halted, capture goes on: ${message}`);
    }
  }

  async #replicaOnce(): Promise<void> {
    const { role, config, logger, clock, reseed } = this.#options;
    const { set, standby, replica } = config;
    invariant(standby !== undefined, "a replica has a standby");
    const signal = this.#stopReplica.signal;
    if (role === "run") await this.#logMade.promise;
    await using log = signal.aborted ? undefined : await this.#openLog("read");
    if (!log) return;
    if (role === "replica") this.#log = log;
    const agent = await startReplica({
      set,
      directory: standby,
      config: replica,
      log,
      logger: logger.child({ part: "replica" }),
      clock,
      signal,
      reseed: reseed ?? false,
    });
    this.#replica = agent;
    agent.ready.then(
      () => this.#partReady("replica"),
      () => undefined,
    );
    await agent.done;
  }

  #partReady(part: "capture" | "replica"): void {
    this.#waitsFor.delete(part);
    if (this.#waitsFor.size > 0) return;
    this.#started = true;
    this.#ready.resolve();
  }

  async #applyTheRest(): Promise<void> {
    if (this.#halted || !this.#replica || !this.#capture) return;
    const limit = new AbortController();
    const applied = this.#replica.waitApplied(this.#capture.status().offset, limit.signal).catch(() => undefined);
    await Promise.race([applied, sleep(LAST_APPLY_MS, limit.signal)]);
    limit.abort();
  }

  /** Undefined when stopped before the log was there. */
  async #openLog(mode: "write" | "read"): Promise<ChangeLog | undefined> {
    const { log, set } = this.#options.config;
    invariant(log !== undefined, "an agent has a log");
    return openLogPatiently({
      log,
      set,
      mode,
      signal: mode === "write" ? this.#stopCapture.signal : this.#stopReplica.signal,
      onProblem: (error) => this.#onProblem(error),
      onRetry: (error, delayMs) => this.#onProblem(error, delayMs),
    });
  }

  #onProblem(error: TidemarkError, delayMs?: number): void {
    this.#problem = error;
    const { code, hint, message } = error;
    this.#options.logger.warn(
      { code, hint, ...(delayMs === undefined ? {} : { retryInMs: Math.round(delayMs) }) },
      message,
    );
  }

  /** Begins again after what a retry can heal, once it has worked before. */
  async #steadily(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    const { clock } = this.#options;
    for (let delayMs = FIRST_PAUSE_MS; ; delayMs = Math.min(delayMs * 2, 10_000)) {
      const beganMs = clock.monotonic();
      try {
        return await work();
      } catch (error) {
        const failure = toTidemarkError(error);
        const healable = failure.retryable && (this.#started || hasCode(failure, "LOG_UNREACHABLE", "LOG_FULL"));
        if (signal.aborted || !healable) throw failure;
        if (clock.monotonic() - beganMs > STEADY_MS) delayMs = FIRST_PAUSE_MS;
        this.#onProblem(failure, delayMs);
      }
      await sleep(delayMs, signal);
      if (signal.aborted) return;
    }
  }
}
