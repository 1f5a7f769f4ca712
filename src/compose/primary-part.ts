import type { CaptureAgent } from "../capture/capture-agent.ts";
import { type FenceRecord, fenceFile, readFence, writeFence } from "../failover/fence-record.ts";
import { runHooks } from "../failover/hooks.ts";
import { readOffer, removeOffer } from "../failover/offer-record.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { promotedError } from "../log/log-errors.ts";
import { isByPromotion } from "../log/resume-log.ts";
import type { FenceStatus } from "../observe/status-report.ts";
import type { SwitchoverReport, SwitchoverRequest } from "../observe/switchover-control.ts";
import { aborted, sleep } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { hasCode, TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { CapturePart, type CapturePartOptions } from "./agent-parts.ts";
import { Hold } from "./hold.ts";
import { newestEpoch } from "./newest-epoch.ts";
import { Switchover } from "./switchover.ts";

/** Between two looks how long the log has been away. */
const LOOK_MS = 100;
const LOG_AWAY = "the log is away for longer than fence.after";
/** A capture that begins again gets this long before the application may write: then it sees each commit as it happens. */
const FIRST_LOOK_MS = 2000;

/** The capture has ended for as long as a switchover needs. */
interface Pause {
  /** Resolves when it has; rejects with what failed. */
  readonly left: PromiseWithResolvers<void>;
  /** Resolves when it is known what comes next. */
  readonly over: PromiseWithResolvers<void>;
  /** Resolves when it captures again; rejects when it does not. */
  readonly again: PromiseWithResolvers<void>;
}

/**
 * The capture of a host as long as the log takes it for the primary, and what keeps its application from writing from then on.
 * That it is fenced is on disk before anything is done about it: every later start begins with the lock, and captures nothing.
 */
export class PrimaryPart {
  readonly #options: CapturePartOptions;
  #capture: CapturePart | undefined;
  #stopCapture = new AbortController();
  #record: FenceRecord | undefined;
  #hold: Hold | undefined;
  /** Of a switchover that is under way. */
  #pause: Pause | undefined;
  /** Of one that was undone, until it captures again. */
  #undone: Pause | undefined;
  #switching = false;

  constructor(options: CapturePartOptions) {
    this.#options = options;
    this.#record = readFence(options.config.state);
  }

  /** Undefined while nothing is captured here, for good or during a switchover. */
  get agent(): CaptureAgent | undefined {
    return this.#record || this.#pause ? undefined : this.#capture?.agent;
  }

  get log(): ChangeLog | undefined {
    return this.#capture?.log;
  }

  get fence(): FenceStatus | undefined {
    const { held = 0, waiting = [] } = this.#hold?.report ?? {};
    const lock = { mode: this.#options.config.fence.mode, locked: held, waiting };
    if (this.#record) {
      const { epoch, offset, reason, at } = this.#record;
      return { ...lock, final: true, reason, epoch, offset, at: at === "" ? null : at };
    }
    if (!this.#hold) return undefined;
    const { reason, at } = this.#hold;
    return { ...lock, final: false, reason, ...this.#standing(), at };
  }

  /** Captures until the signal. @throws FENCED at the end, once another host is the primary */
  async run(): Promise<void> {
    try {
      const offer = this.#record ? undefined : readOffer(this.#options.config.state);
      if (offer)
        this.#keepFromWriting(
          () =>
            `it was handing over to ${offer.to} when it ended; the log says what became of that, and did not answer yet`,
        );
      if (!this.#record) await this.#captureUntilFenced();
      if (this.#record) await this.#stayFenced(this.#record);
    } finally {
      await this.#hold?.[Symbol.asyncDispose]();
    }
  }

  /** Hands over to a standby. @throws FENCED, AGENT_RUNNING, and as Switchover.run */
  async switchover(request: SwitchoverRequest, asked: AbortSignal): Promise<SwitchoverReport> {
    const { config, logger } = this.#options;
    if (this.#record) throw fencedError(this.#record, config.state);
    if (this.#switching) throw alreadyUnderWay();
    this.#switching = true;
    const switchover = new Switchover({
      ...this.#options,
      logger: logger.child({ part: "switchover" }),
      capture: () => ({ agent: this.agent, log: this.log }),
      keepFromWriting: (reason) => this.#keepFromWriting(reason),
      endCapture: async () => this.#endCapture(),
      captureAgain: async () => this.#captureAgain(),
      fence: (record) => this.#fence(record),
    });
    return switchover.run(request, asked).finally(() => (this.#switching = false));
  }

  async #captureUntilFenced(): Promise<void> {
    const { signal } = this.#options;
    for (;;) {
      const failure = await this.#captureOnce().then(() => undefined, toTidemarkError);
      this.#undone?.again.reject(failure ?? this.#endedError());
      const pause = this.#pause;
      if (!pause || this.#isFenced || signal.aborted) {
        pause?.left.reject(failure ?? this.#endedError());
        pause?.again.reject(this.#endedError());
        if (failure) throw failure;
        return;
      }
      if (failure) pause.left.reject(failure);
      else pause.left.resolve();
      await pause.over.promise;
      this.#pause = undefined;
      this.#undone = pause;
      if (!this.#isFenced && !signal.aborted) continue;
      pause.again.reject(this.#endedError());
      return;
    }
  }

  get #isFenced(): boolean {
    return this.#record !== undefined;
  }

  #endedError(): TidemarkError {
    const { state } = this.#options.config;
    return this.#record ? fencedError(this.#record, state) : agentEnds();
  }

  async #captureOnce(): Promise<void> {
    const { signal, config } = this.#options;
    const stop = new AbortController();
    this.#stopCapture = stop;
    this.#capture = new CapturePart({
      ...this.#options,
      signal: AbortSignal.any([signal, stop.signal]),
      onStarted: () => {
        this.#captures().catch((error: unknown) => this.#options.onProblem(toTidemarkError(error)));
      },
    });
    const over = new AbortController();
    const watching = this.#watchLog(over.signal);
    try {
      await this.#capture.run();
    } catch (error) {
      const fenced = await this.#fencedBy(error);
      if (!fenced) throw error;
      const at = new Date(this.#options.clock.now()).toISOString();
      this.#fence({ set: config.set, ...this.#standing(), reason: fenced.message, at });
    } finally {
      over.abort();
      await watching;
    }
  }

  /** An append of this writer's was acknowledged: nobody can take its place by an offer that it made before. */
  async #captures(): Promise<void> {
    const { config, onStarted } = this.#options;
    onStarted?.();
    if (readOffer(config.state)) {
      crashPoint("switchover: taken back");
      removeOffer(config.state);
      await this.#letWrite();
    }
    this.#undone?.again.resolve();
    this.#undone = undefined;
  }

  #fence(record: FenceRecord): void {
    if (this.#record) return;
    const { state } = this.#options.config;
    this.#record = record;
    writeFence(state, record);
    crashPoint("fence: recorded");
    removeOffer(state);
    this.#pause?.over.resolve();
  }

  /** The refusal of an append, or that another host was promoted in what stands in the place of the log; undefined: neither. */
  async #fencedBy(error: unknown): Promise<TidemarkError | undefined> {
    if (hasCode(error, "FENCED")) return error;
    if (!this.#capture?.agent || !hasCode(error, "LOG_RECREATED", "LOG_REGRESSED")) return undefined;
    const { start, location = "" } = (await newestEpoch(this.#options.config)) ?? {};
    if (!start || !isByPromotion(start) || start.epoch <= this.#standing().epoch) return undefined;
    return promotedError(location, { ...start, wasOurs: true });
  }

  async #stayFenced(record: FenceRecord): Promise<void> {
    const { config, logger, signal } = this.#options;
    const { mode } = config.fence;
    const error = fencedError(record, config.state);
    logger.error({ code: error.code, hint: error.hint, fence: mode }, error.message);
    if (mode === "lock") this.#keepFromWriting(() => record.reason);
    this.#options.onFenced?.();
    await runHooks(config.hooks.onFence, { facts: record, timeoutMs: config.hooks.timeoutMs, logger });
    if (mode === "lock") await aborted(signal);
    throw error;
  }

  #keepFromWriting(reason: () => string): Hold {
    const { config, clock } = this.#options;
    this.#hold ??= new Hold({ config, reason, at: new Date(clock.now()).toISOString() });
    return this.#hold;
  }

  async #letWrite(): Promise<void> {
    if (this.#record) return;
    const hold = this.#hold;
    this.#hold = undefined;
    await hold?.[Symbol.asyncDispose]();
  }

  async #endCapture(): Promise<void> {
    const pause = {
      left: Promise.withResolvers<void>(),
      over: Promise.withResolvers<void>(),
      again: Promise.withResolvers<void>(),
    };
    pause.again.promise.catch(() => undefined);
    this.#pause = pause;
    this.#stopCapture.abort();
    await pause.left.promise;
  }

  /** Resolves when the application may write; rejects when that will not be: FENCED, or the agent ends. */
  async #captureAgain(): Promise<void> {
    const { over, again } = this.#pause ?? {};
    over?.resolve();
    const limit = new AbortController();
    const undecided = readOffer(this.#options.config.state) !== undefined;
    const patience = undecided ? aborted(limit.signal) : sleep(FIRST_LOOK_MS, limit.signal);
    await Promise.race([again?.promise, patience]).finally(() => limit.abort());
    await this.#letWrite();
  }

  /** With `fence.after`: while the log is away for longer, somebody may be promoting, and nobody could tell us. */
  async #watchLog(signal: AbortSignal): Promise<void> {
    const { config, clock, logger } = this.#options;
    const { afterMs } = config.fence;
    if (afterMs === undefined) return;
    let reachedMs = clock.monotonic();
    while (!signal.aborted) {
      const nowMs = clock.monotonic();
      const waitedMs = this.#capture?.agent?.status().lagMs;
      if (waitedMs !== undefined) reachedMs = nowMs - waitedMs;
      const away = nowMs - reachedMs > afterMs;
      if (away && !this.#hold) {
        this.#keepFromWriting(() => LOG_AWAY);
        logger.error(
          { afterMs },
          "the log is away for too long: the application is kept from writing until it is back",
        );
      } else if (!away && this.#hold?.reason === LOG_AWAY && waitedMs === 0) {
        logger.info("the log is back, and this is still the primary: the application may write again");
        await this.#letWrite();
      }
      await sleep(LOOK_MS, signal);
    }
  }

  #standing(): { epoch: number; offset: number } {
    const { epoch = 0, offset = 0 } = this.#capture?.agent?.status() ?? {};
    return { epoch, offset };
  }
}

export function fencedError({ reason, at }: Pick<FenceStatus, "reason" | "at">, state: string): TidemarkError {
  const since = at === null || at === "" ? "" : ` since ${at}`;
  return new TidemarkError("FENCED", `this host is fenced${since}: ${reason}`, {
    hint:
      "Another host is the primary. Send the application there. What was written here since then is in no log; " +
      `${fenceFile(state)} keeps this host from capturing.`,
  });
}

function agentEnds(): TidemarkError {
  return new TidemarkError("INTERRUPTED", "the agent ends", {
    hint: "Its next start asks the log who the primary is, before the application can write.",
  });
}

function alreadyUnderWay(): TidemarkError {
  return new TidemarkError("AGENT_RUNNING", "this primary is handing over just now", {
    hint: "Wait for the other command; `tidemark status` shows what became of it.",
  });
}
