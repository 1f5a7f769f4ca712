import type { CaptureAgent } from "../capture/capture-agent.ts";
import { type FenceRecord, fenceFile, readFence, writeFence } from "../failover/fence-record.ts";
import { runHooks } from "../failover/hooks.ts";
import { WriteLock } from "../failover/write-lock.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { FenceStatus } from "../observe/status-report.ts";
import { aborted, sleep } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { CapturePart, type CapturePartOptions } from "./agent-parts.ts";

/** Between two looks how long the log has been away. */
const LOOK_MS = 100;
const LOG_AWAY = "the log is away for longer than fence.after";

/**
 * The capture of a host as long as the log takes it for the primary, and what keeps its application from writing from then on.
 * That it is fenced is on disk before anything is done about it: every later start begins with the lock, and captures nothing.
 */
export class PrimaryPart {
  readonly #options: CapturePartOptions;
  readonly #capture: CapturePart;
  #record: FenceRecord | undefined;
  #lock: WriteLock | undefined;
  /** Since when the lock is held because the log is away. */
  #awaySince: string | undefined;

  constructor(options: CapturePartOptions) {
    this.#options = options;
    this.#capture = new CapturePart(options);
    this.#record = readFence(options.config.state);
  }

  /** Undefined once another host is the primary: nothing is captured here. */
  get agent(): CaptureAgent | undefined {
    return this.#record ? undefined : this.#capture.agent;
  }

  get log(): ChangeLog | undefined {
    return this.#capture.log;
  }

  get fence(): FenceStatus | undefined {
    const { held = 0, waiting = [] } = this.#lock?.report ?? {};
    const lock = { mode: this.#options.config.fence.mode, locked: held, waiting };
    if (this.#record) {
      const { epoch, offset, reason, at } = this.#record;
      return { ...lock, final: true, reason, epoch, offset, at: at === "" ? null : at };
    }
    if (this.#awaySince === undefined) return undefined;
    return { ...lock, final: false, reason: LOG_AWAY, ...this.#standing(), at: this.#awaySince };
  }

  /** Captures until the signal. @throws FENCED at the end, once another host is the primary */
  async run(): Promise<void> {
    try {
      if (!this.#record) await this.#captureUntilFenced();
      if (this.#record) await this.#stayFenced(this.#record);
    } finally {
      await this.#lock?.[Symbol.asyncDispose]();
    }
  }

  async #captureUntilFenced(): Promise<void> {
    const ended = new AbortController();
    const watching = this.#watchLog(ended.signal);
    try {
      await this.#capture.run();
    } catch (error) {
      if (!hasCode(error, "FENCED")) throw error;
      const { set, state } = this.#options.config;
      const at = new Date(this.#options.clock.now()).toISOString();
      this.#record = { set, ...this.#standing(), reason: error.message, at };
      writeFence(state, this.#record);
      crashPoint("fence: recorded");
    } finally {
      ended.abort();
      await watching;
    }
  }

  async #stayFenced(record: FenceRecord): Promise<void> {
    const { config, logger, signal } = this.#options;
    const { mode } = config.fence;
    const error = fencedError(record, config.state);
    logger.error({ code: error.code, hint: error.hint, fence: mode }, error.message);
    if (mode === "lock") this.#lock ??= new WriteLock(config);
    await runHooks(config.hooks.onFence, { facts: record, timeoutMs: config.hooks.timeoutMs, logger });
    if (mode === "lock") await aborted(signal);
    throw error;
  }

  /** With `fence.after`: while the log is away for longer, somebody may be promoting, and nobody could tell us. */
  async #watchLog(signal: AbortSignal): Promise<void> {
    const { config, clock, logger } = this.#options;
    const { afterMs } = config.fence;
    if (afterMs === undefined) return;
    let reachedMs = clock.monotonic();
    while (!signal.aborted) {
      const nowMs = clock.monotonic();
      const waitedMs = this.#capture.agent?.status().lagMs;
      if (waitedMs !== undefined) reachedMs = nowMs - waitedMs;
      const away = nowMs - reachedMs > afterMs;
      if (away && !this.#lock) {
        this.#awaySince = new Date(clock.now()).toISOString();
        this.#lock = new WriteLock(config);
        logger.error(
          { afterMs },
          "the log is away for too long: the application is kept from writing until it is back",
        );
      } else if (!away && this.#lock && waitedMs === 0) {
        logger.info("the log is back, and this is still the primary: the application may write again");
        await this.#lock[Symbol.asyncDispose]();
        this.#lock = undefined;
        this.#awaySince = undefined;
      }
      await sleep(LOOK_MS, signal);
    }
  }

  #standing(): { epoch: number; offset: number } {
    const { epoch = 0, offset = 0 } = this.#capture.agent?.status() ?? {};
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
