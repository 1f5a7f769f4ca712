import type { Logger } from "pino";

import { requireSafeSqlite } from "../capture/sqlite/preflight.ts";
import type { Config } from "../config/config.ts";
import { type HttpConfig, isLoopback } from "../config/http-listen.ts";
import { standbyState } from "../config/load-config.ts";
import { readFence } from "../failover/fence-record.ts";
import { readOffer } from "../failover/offer-record.ts";
import { requireNoRejoin } from "../failover/rejoin/rejoin-record.ts";
import {
  agentHandlers,
  type LiveAgents,
  promoteOn,
  type PromoteReport,
  type PromoteRequest,
  statusOf,
  syncOn,
} from "../observe/agent-control.ts";
import { startControlServer } from "../observe/control-server.ts";
import { checkOpenFiles } from "../observe/open-files.ts";
import type { AgentPart } from "../observe/status-report.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import { makeDirectory } from "../runtime/durable-directory.ts";
import { EXIT, type TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { type PartOptions, ReplicaPart } from "./agent-parts.ts";
import { checkSource } from "./check-source.ts";
import { PrimaryPart } from "./primary-part.ts";
import { StandbyPart } from "./standby-part.ts";

/** After the capture of `run` has ended, its replica gets this long to apply the rest. */
const LAST_APPLY_MS = 5000;
/** A commit that waits longer than this waits because of the problem that was told last. */
const NOTICEABLE_LAG_MS = 1000;

export interface AgentOptions {
  readonly role: AgentPart["role"];
  readonly config: Config;
  readonly logger: Logger;
  readonly clock: Clock;
  /** A graceful stop. */
  readonly signal: AbortSignal;
  readonly takeover?: boolean;
  readonly reseed?: boolean;
  readonly acceptEmpty?: boolean;
}

export interface RunningAgents {
  /** Resolves when the first copy is in the log and the standby has it. Never settles when that does not come about. */
  readonly ready: Promise<void>;
  /** Resolves after a graceful stop; rejects with what stopped the agents, or halted the replica meanwhile. */
  readonly done: Promise<void>;
  /** Makes the primary of a standby. @throws USAGE when this is none, and as Promotion.promote */
  promote(request: PromoteRequest): Promise<PromoteReport>;
  /** Pages looked at, of all, in the copies and repairs that capture has under way, or files in first scans; total 0: none. */
  copies(): { readonly phase: "copying" | "scanning"; readonly done: number; readonly total: number };
}

/**
 * Starts what `run`, `capture` and `replica` are made of, in this process, behind a control socket. What is wrong with the
 * databases is said before anything is made on disk.
 */
export async function startAgents(options: AgentOptions): Promise<RunningAgents> {
  const { role, config } = options;
  requireSafeSqlite();
  if (role !== "capture" && config.standby !== undefined) requireNoRejoin(config.standby);
  // What is wrong with the databases must not keep a fenced host from locking the others.
  if (role !== "replica" && !isKeptFromWriting(config.state)) checkSource(config);
  for (const { severity, code, message, hint } of checkOpenFiles(role, config)) {
    if (severity !== "ok") options.logger.warn({ code, hint }, message);
  }
  const agents = new Agents(options);
  await agents.open();
  return agents;
}

/** At a start: fenced, or nobody knows yet. */
function isKeptFromWriting(state: string): boolean {
  return (readFence(state) ?? readOffer(state)) !== undefined;
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
  readonly #capture: PrimaryPart | undefined;
  /** Of `run`. */
  readonly #replica: ReplicaPart | undefined;
  readonly #standby: StandbyPart | undefined;
  /** Parts that are not ready yet. */
  #waitsFor: number;
  #problem: TidemarkError | undefined;
  /** What stopped the replica of `run` for good. */
  #halted: TidemarkError | undefined;

  constructor(options: AgentOptions) {
    const { role, takeover = false, reseed = false, acceptEmpty = false } = options;
    this.#options = options;
    this.ready = this.#ready.promise;
    this.done = this.#done.promise;
    this.done.catch(() => undefined);
    this.#stopReplica.signal.addEventListener("abort", () => this.#logMade.resolve(), { once: true });
    const onLogOpened = (): void => this.#logMade.resolve();
    if (role !== "replica")
      this.#capture = new PrimaryPart({ ...this.#part(this.#stopCapture), takeover, acceptEmpty, onLogOpened });
    const replica = {
      ...this.#part(this.#stopReplica),
      reseed,
      besideCapture: role === "run",
      goesOnWithout: (failure: TidemarkError) => this.#goesOnWithout(failure),
    };
    if (role === "run") this.#replica = new ReplicaPart(replica);
    if (role === "replica") this.#standby = new StandbyPart(replica);
    this.#waitsFor = role === "run" ? 2 : 1;
  }

  async promote(request: PromoteRequest): Promise<PromoteReport> {
    return promoteOn(this.#live(), request);
  }

  copies(): ReturnType<RunningAgents["copies"]> {
    const { databases = [], files = [] } = this.#capturing?.agent?.status() ?? {};
    const copies = sumOf(databases.map(({ copy }) => copy));
    if (copies.total > 0) return { phase: "copying", ...copies };
    return { phase: "scanning", ...sumOf(files.map(({ state, scan }) => (state === "scanning" ? scan : undefined))) };
  }

  get #capturing(): PrimaryPart | undefined {
    return this.#capture ?? this.#standby?.primary;
  }

  get #applying(): ReplicaPart | undefined {
    return this.#replica ?? this.#standby?.replica;
  }

  #part(stop: AbortController): PartOptions {
    const { config, logger, clock } = this.#options;
    return {
      config,
      logger,
      clock,
      signal: stop.signal,
      onReady: () => this.#partReady(),
      onProblem: (error, pauseMs) => this.#onProblem(error, pauseMs),
    };
  }

  /** Claims the control sockets, then sets everything going. @throws AGENT_RUNNING */
  async open(): Promise<void> {
    const { role, config } = this.#options;
    if (role !== "capture" && config.standby !== undefined) makeDirectory(config.standby);
    try {
      for (const directory of this.#socketDirectories()) {
        this.#sockets.use(await startControlServer({ directory, handlers: agentHandlers(() => this.#live()) }));
      }
      if (config.http) this.#sockets.use(await this.#serveHttp(config.http));
    } catch (error) {
      await this.#sockets.disposeAsync();
      throw error;
    }
    this.#run().then(this.#done.resolve, this.#done.reject);
  }

  async #serveHttp(http: HttpConfig): Promise<AsyncDisposable> {
    const { logger } = this.#options;
    if (!isLoopback(http)) {
      logger.warn(
        { hint: "Listen on 127.0.0.1, or keep strangers out with a firewall." },
        `whoever reaches ${http.host}:${http.port} can read names of databases and trees, and how they fare`,
      );
    }
    // Costs its memory only where it is asked for.
    const { startHttpServer } = await import("../observe/http-server.ts");
    return startHttpServer({
      ...http,
      status: async () => statusOf(this.#live()),
      sync: async (request, signal) => syncOn(this.#live(), request, signal),
    });
  }

  /** `run` answers at both places at which somebody may look for it. */
  #socketDirectories(): Set<string> {
    const { role, config } = this.#options;
    const places = new Set<string>();
    if (role !== "replica") places.add(config.state);
    if (role !== "capture" && config.standby !== undefined) places.add(standbyState(config.standby));
    return places;
  }

  #live(): LiveAgents {
    const { config, clock, role } = this.#options;
    const [capture, replica, standby] = [this.#capturing, this.#applying, this.#standby];
    return {
      set: config.set,
      objectiveMs: config.objectives.rpoMs,
      clock,
      self: { role, pid: process.pid, state: this.#state(), problem: this.#problemNow() },
      capture: capture?.agent,
      fence: capture?.fence,
      replica: replica?.agent,
      archive: replica?.archive,
      promote: standby && (async (request) => standby.promote(request)),
      switchover: capture && (async (request, asked) => capture.switchover(request, asked)),
      log: capture?.log ?? replica?.log,
    };
  }

  #state(): AgentPart["state"] {
    if (this.#options.signal.aborted) return "stopping";
    if (this.#capturing?.fence?.final) return "fenced";
    return this.#waitsFor === 0 ? "running" : "starting";
  }

  /** A log's trouble is over when nothing waits for it any more. */
  #problemNow(): string | null {
    if (this.#halted) return this.#halted.message;
    if (this.#capturing?.fence) return null;
    const part = this.#capturing ?? this.#applying;
    const waits = !part?.agent || part.agent.status().lagMs > NOTICEABLE_LAG_MS;
    return this.#problem && waits ? this.#problem.message : null;
  }

  #onProblem(error: TidemarkError, pauseMs?: number): void {
    this.#problem = error;
    const { code, hint, message } = error;
    const pause = pauseMs === undefined ? {} : { retryInMs: Math.round(pauseMs) };
    this.#options.logger.warn({ code, hint, ...pause }, message);
  }

  #partReady(): void {
    this.#waitsFor = Math.max(0, this.#waitsFor - 1);
    // Fails only when the agents end, which `done` tells.
    if (this.#waitsFor === 0) this.#shown().then(this.#ready.resolve, () => undefined);
  }

  /** The replica of `run` can catch up with a log that has no copy yet: ready is when the standby shows the capture's. */
  async #shown(): Promise<void> {
    const [capture, replica] = [this.#capture?.agent, this.#replica?.agent];
    if (capture && replica) await replica.waitApplied(await capture.sync(), this.#stopReplica.signal);
  }

  async #run(): Promise<void> {
    const { role, signal } = this.#options;
    const stop = (): void => (role === "replica" ? this.#stopReplica : this.#stopCapture).abort();
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    try {
      const ended = await Promise.allSettled([this.#runCapture(), this.#runReplica()]);
      const failed = ended.find((one) => one.status === "rejected");
      if (failed) throw failed.reason;
    } finally {
      await this.#sockets.disposeAsync();
    }
    if (this.#halted) throw this.#halted;
  }

  async #runCapture(): Promise<void> {
    if (!this.#capture) return;
    try {
      await this.#capture.run();
      await this.#applyTheRest();
    } finally {
      this.#stopReplica.abort();
    }
  }

  async #runReplica(): Promise<void> {
    try {
      if (this.#capture) await this.#logMade.promise;
      await (this.#replica ?? this.#standby)?.run();
    } catch (error) {
      this.#stopCapture.abort();
      throw toTidemarkError(error);
    }
  }

  /**
   * Whether the rest goes on without the standby. A mistake in the set-up ends `run` as it starts. A standby that has gone bad
   * must not end capture and archive: they are what is left.
   */
  #goesOnWithout(failure: TidemarkError): boolean {
    const mistake = this.#waitsFor > 0 && (failure.exitCode === EXIT.usage || failure.exitCode === EXIT.refused);
    if (!this.#capture || mistake) return false;
    this.#halted = failure;
    const { code, hint, message } = failure;
    this.#options.logger.error({ part: "replica", code, hint }, `the standby is halted, capture goes on: ${message}`);
    return true;
  }

  /** So that a stopped standby is as new as the log, if that does not take long. */
  async #applyTheRest(): Promise<void> {
    const [capture, replica] = [this.#capture?.agent, this.#replica?.agent];
    if (this.#halted || !capture || !replica) return;
    const limit = new AbortController();
    const applied = replica.waitApplied(capture.status().offset, limit.signal).catch(() => undefined);
    await Promise.race([applied, sleep(LAST_APPLY_MS, limit.signal)]);
    limit.abort();
  }
}

interface Progress {
  readonly done: number;
  readonly total: number;
}

function sumOf(parts: readonly (Progress | undefined)[]): Progress {
  const sum = { done: 0, total: 0 };
  for (const part of parts) {
    sum.done += part?.done ?? 0;
    sum.total += part?.total ?? 0;
  }
  return sum;
}
