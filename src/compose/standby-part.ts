import type { Config } from "../config/config.ts";
import { promotedConfig, readRole } from "../failover/standby-role.ts";
import type { PromoteReport, PromoteRequest } from "../observe/agent-control.ts";
import { aborted, sleep } from "../runtime/clock.ts";
import { hasCode, TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { type PartOptions, ReplicaPart, type ReplicaPartOptions } from "./agent-parts.ts";
import { fencedError, PrimaryPart } from "./primary-part.ts";
import { Promotion } from "./promotion.ts";

/** Between two attempts to end a promotion. */
const GO_ON_MS = 1000;

/** What `tidemark replica` runs: the replica of a standby, or, from its promotion on, the capture of what was one. */
export class StandbyPart {
  readonly #options: ReplicaPartOptions;
  readonly #endReplica = new AbortController();
  /** Resolves when the replica's files are closed. */
  readonly #replicaEnded = Promise.withResolvers<void>();
  /** Resolves with the promotion; rejects when it failed with the replica ended: the next start goes on with it. */
  readonly #promoted = Promise.withResolvers<void>();
  readonly #promotion: Promotion;
  #replica: ReplicaPart | undefined;
  #primary: PrimaryPart | undefined;
  readonly #started = Promise.withResolvers<void>();

  constructor(options: ReplicaPartOptions) {
    const { config, logger, signal } = options;
    this.#options = options;
    this.#promoted.promise.catch(() => undefined);
    this.#promotion = new Promotion({
      ...options,
      logger: logger.child({ part: "promotion" }),
      replica: () => {
        const { agent, log } = this.#replica ?? {};
        return agent && log && { agent, log };
      },
      endReplica: async () => {
        this.#endReplica.abort();
        await this.#replicaEnded.promise;
      },
      capture: async (promoted) => this.#capture(promoted),
      onFailure: (error) => {
        if (this.#endReplica.signal.aborted) this.#promoted.reject(error);
      },
    });
    const role = readRole(config.standby ?? "");
    if (role && options.reseed) throw reseedOfPrimary(config);
    if (role) this.#primary = this.#primaryOf(promotedConfig(config, role));
    else {
      const either = AbortSignal.any([signal, this.#endReplica.signal]);
      this.#replica = new ReplicaPart({
        ...options,
        signal: either,
        onReady: () => {
          options.onReady();
          void this.#goOn();
        },
        onOffered: () => void this.#goOn(),
      });
    }
  }

  /** Undefined once it was promoted. */
  get replica(): ReplicaPart | undefined {
    return this.#primary ? undefined : this.#replica;
  }

  /** Undefined as long as it is a standby. */
  get primary(): PrimaryPart | undefined {
    return this.#primary;
  }

  /** @throws what halted the standby, or stopped the capture of one that was promoted; FENCED */
  async run(): Promise<void> {
    try {
      await this.#run();
    } catch (error) {
      // Stopped while a promotion waited for the log: the next start goes on with it.
      if (!this.#options.signal.aborted || !hasCode(error, "LOG_UNREACHABLE")) throw error;
    }
  }

  async #run(): Promise<void> {
    try {
      if (this.#replica && !this.#options.reseed && (await this.#promotion.resume())) this.#endReplica.abort();
      else await this.#replica?.run();
    } finally {
      this.#replicaEnded.resolve();
    }
    if (this.#endReplica.signal.aborted) await this.#promoted.promise;
    await this.#primary?.run().finally(() => this.#started.resolve());
  }

  async promote(request: PromoteRequest): Promise<PromoteReport> {
    if (this.#primary) return already(this.#primary, this.#options);
    return this.#promotion.promote(request);
  }

  /** Resolves when what was the standby is captured. @throws FENCED when another host was promoted meanwhile */
  async #capture(config: Config): Promise<void> {
    const primary = this.#primaryOf(config);
    this.#primary = primary;
    this.#promoted.resolve();
    await Promise.race([this.#started.promise, aborted(this.#options.signal)]);
    if (primary.fence?.final) throw fencedError(primary.fence, config.state);
  }

  #primaryOf(config: Config): PrimaryPart {
    const parts: PartOptions = this.#options;
    const onStarted = this.#started.resolve;
    return new PrimaryPart({
      ...parts,
      config,
      takeover: false,
      acceptEmpty: false,
      onLogOpened: () => undefined,
      onStarted,
      onFenced: onStarted,
    });
  }

  /** Until it has come to an end: whoever took this host's epoch for begun relies on it. */
  async #goOn(): Promise<void> {
    const { logger, signal } = this.#options;
    for (let { agent } = this.#replica ?? {}; agent && !signal.aborted; { agent } = this.#replica ?? {}) {
      try {
        return await this.#promotion.goOn(agent.recorded().id);
      } catch (error) {
        const { code, hint, message, retryable } = toTidemarkError(error);
        logger.error({ code, hint }, `the promotion of this standby was not finished: ${message}`);
        if (!retryable || this.#endReplica.signal.aborted) return;
      }
      await sleep(GO_ON_MS, signal);
    }
  }
}

function already({ agent, fence }: PrimaryPart, { config }: PartOptions): PromoteReport {
  if (fence?.final) throw fencedError(fence, config.state);
  if (!agent) {
    throw new TidemarkError("AGENT_NOT_RUNNING", "this host was promoted, and its capture is not up yet", {
      hint: "`tidemark status` tells what it waits for.",
    });
  }
  const { epoch, offset } = agent.status();
  return { ok: true, epoch, offset, lost: { offsets: 0, ms: 0 }, durationMs: 0, hooks: [], already: true };
}

function reseedOfPrimary({ standby = "" }: Config): TidemarkError {
  return new TidemarkError("STANDBY_FOREIGN", `${standby} was promoted: what an application writes is in it`, {
    hint: "Start it without --reseed. A new standby wants a directory of its own.",
  });
}
