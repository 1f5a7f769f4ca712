import type { Logger } from "pino";

import type { CaptureAgent } from "../capture/capture-agent.ts";
import { openLog } from "../compose.ts";
import type { Config } from "../config/config.ts";
import { type Offset, offset as toOffset } from "../event/positions.ts";
import { answeredBy, chooseSuccessor, type Wanted } from "../failover/choose-successor.ts";
import type { FenceRecord } from "../failover/fence-record.ts";
import { makeOffer, type Taken, takenAfter } from "../failover/offer.ts";
import { writeOffer } from "../failover/offer-record.ts";
import {
  notCapturing,
  notLocked,
  notTaken,
  requireAllCaptured,
  sharedLog,
  tooSlow,
} from "../failover/switchover-refusals.ts";
import type { ChangeLog, RegisteredReplica } from "../log/change-log.ts";
import { appliedBy, shownStandby } from "../log/watch-standbys.ts";
import { askStandbys } from "../observe/ask-standbys.ts";
import type { SwitchoverReport, SwitchoverRequest } from "../observe/switchover-control.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { hasCode, TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import type { Hold } from "./hold.ts";

/** A standby that follows answers within milliseconds. */
const ANSWER_MS = 5000;
const LOOK_MS = 5;

/** The agent of a primary, as a switchover needs it. */
export interface SwitchoverOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly clock: Clock;
  /** The agent is stopped. */
  readonly signal: AbortSignal;
  readonly capture: () => { readonly agent: CaptureAgent | undefined; readonly log: ChangeLog | undefined };
  readonly keepFromWriting: (reason: () => string) => Hold;
  /** Resolves when everything captured is in the log, and nothing is captured any more. */
  readonly endCapture: () => Promise<void>;
  /** Resolves when the application may write again. @throws FENCED when another host turns out to be the primary */
  readonly captureAgain: () => Promise<void>;
  readonly fence: (record: FenceRecord) => void;
}

/** Who is to take over, in whose place, and how long the application may wait for it. */
interface Plan {
  readonly successor: RegisteredReplica;
  readonly epoch: number;
  /** Of the record with which the standbys were asked. */
  readonly asked: Offset;
}

/** How long the application may wait. */
interface Patience {
  readonly timeoutMs: number;
  readonly deadlineMs: number;
}

/**
 * The primary hands over, and nothing is lost: the application is kept from writing, everything is brought into the log, and
 * the last record offers the place to a standby. The offer holds as long as that record is the newest one: the standby's epoch
 * right behind it takes the place, any other record takes the offer back, and the log lets one of the two be.
 */
export class Switchover {
  readonly #options: SwitchoverOptions;
  #stage = "";

  constructor(options: SwitchoverOptions) {
    this.#options = options;
  }

  /**
   * `asked` aborts when whoever asked is gone; once the application waits it goes on without.
   *
   * @throws STANDBY_MISSING, STANDBY_BEHIND, STANDBY_UNVERIFIED, NOT_CAPTURED, DATABASE_BUSY, TIMEOUT, USAGE, LOG_UNREACHABLE
   */
  async run(request: SwitchoverRequest, asked: AbortSignal): Promise<SwitchoverReport> {
    const { config, clock } = this.#options;
    const beganMs = clock.monotonic();
    const where = sharedLog(config);
    const plan = await this.#plan(request, asked);
    const nothingLost = { ok: true, lost: { offsets: 0, ms: 0 }, to: standingOf(plan) } as const;
    const spent = (): number => Math.round(clock.monotonic() - beganMs);
    if (request.dryRun) {
      const next = { epoch: plan.epoch + 1, offset: plan.asked + 2 };
      return { ...nothingLost, ...next, durationMs: spent(), pausedMs: null, captures: false, dryRun: true };
    }
    // Before the application waits for it.
    await using log = await openLog({ ...config, log: where, mode: "write" });
    asked.throwIfAborted();
    const done = await this.#handOver(log, plan, request.timeoutMs);
    const { taken, pausedMs, captures } = done;
    const { start, offset } = taken;
    return { ...nothingLost, epoch: start.epoch, offset, durationMs: spent(), pausedMs, captures };
  }

  /** Changes nothing but that the standbys are asked, in the log. */
  async #plan({ to, force, timeoutMs }: SwitchoverRequest, asked: AbortSignal): Promise<Plan> {
    const { capture, clock, signal } = this.#options;
    const { agent, log } = capture();
    if (!agent || !log) throw notCapturing();
    if (!force) requireAllCaptured(agent);
    const wantedAt = (at: Offset): Wanted => ({ to, force, asked: at, nowMs: clock.now() });
    const { offset, standbys } = await askStandbys(
      { agent, log },
      (known, at) => answeredBy(known, wantedAt(at)) !== undefined,
      { clock, timeoutMs, answerMs: ANSWER_MS, signal: AbortSignal.any([signal, asked]) },
    );
    return { successor: chooseSuccessor(standbys, wantedAt(offset)), epoch: agent.status().epoch, asked: offset };
  }

  async #handOver(
    log: ChangeLog,
    { successor, epoch }: Plan,
    timeoutMs: number,
  ): Promise<{ taken: Taken; pausedMs: number; captures: boolean }> {
    const { config, clock, logger } = this.#options;
    const to = shownStandby(successor);
    const patience = { timeoutMs, deadlineMs: clock.monotonic() + timeoutMs };
    const enter = (what: string): void => {
      this.#stage = `switchover to ${to}: ${what}`;
      logger.info(this.#stage);
    };
    let pausedAtMs = clock.monotonic();
    let offeredAt: Offset | undefined;
    let taken: Taken | undefined;
    try {
      enter("the application is kept from writing");
      await this.#lock(patience);
      pausedAtMs = clock.monotonic();
      crashPoint("switchover: locked");
      enter("everything is brought into the log");
      await this.#options.endCapture();
      crashPoint("switchover: drained");
      this.#requireTime(patience);
      writeOffer(config.state, { set: config.set, to, at: new Date(clock.now()).toISOString() });
      crashPoint("switchover: noted");
      enter("it is asked to take over");
      offeredAt = await this.#offer(log, successor.id, patience);
      crashPoint("switchover: offered");
      taken = await this.#taken(log, offeredAt, patience);
      if (!taken) throw notTaken(to, patience);
    } catch (error) {
      const { code, hint, message } = toTidemarkError(error);
      logger.warn({ code, hint }, `the switchover is undone: ${message}`);
      this.#stage = `switchover to ${to}: it is undone, and the log has not said yet that this host is still the primary`;
      taken = await this.#undo(log, offeredAt);
      if (!taken) throw error;
    }
    crashPoint("switchover: taken");
    this.#fence(taken, epoch);
    const captures = await this.#captures(log, taken, patience);
    return { taken, pausedMs: Math.round(clock.monotonic() - pausedAtMs), captures };
  }

  /** @throws FENCED when somebody promoted a standby in this moment: what that one lacks is its own affair */
  #fence({ start: { host, reason: why, epoch: next }, offset }: Taken, epoch: number): void {
    const { config, clock, fence } = this.#options;
    const reason =
      why === "switchover"
        ? `switchover: host ${host} is the primary from offset ${offset} on (epoch ${next})`
        : `host ${host} was promoted during a switchover, and is the primary from offset ${offset} on (epoch ${next})`;
    fence({ set: config.set, epoch, offset: toOffset(offset - 1), reason, at: new Date(clock.now()).toISOString() });
    if (why === "switchover") return;
    throw new TidemarkError("FENCED", reason, {
      hint: "Send the application there; `tidemark history` tells whether anything was lost.",
    });
  }

  /** @throws DATABASE_BUSY */
  async #lock({ deadlineMs, timeoutMs }: Patience): Promise<void> {
    const { clock, signal, keepFromWriting } = this.#options;
    const hold = keepFromWriting(() => this.#stage);
    for (;;) {
      const { report } = hold;
      if (report?.waiting.length === 0) return;
      if (clock.monotonic() > deadlineMs || signal.aborted) throw notLocked(report?.waiting ?? [], timeoutMs);
      await sleep(LOOK_MS, signal);
    }
  }

  #requireTime({ deadlineMs, timeoutMs }: Patience): void {
    if (this.#options.clock.monotonic() < deadlineMs) return;
    throw tooSlow(timeoutMs);
  }

  async #offer(log: ChangeLog, successor: string, { deadlineMs }: Patience): Promise<Offset> {
    const { config, clock, signal } = this.#options;
    const late = new AbortController();
    const limit = AbortSignal.any([signal, late.signal]);
    const cancel = new AbortController();
    void sleep(Math.max(1, deadlineMs - clock.monotonic()), cancel.signal).then(() => late.abort());
    try {
      return await makeOffer({ config, log, clock, signal: limit, successor });
    } finally {
      cancel.abort();
    }
  }

  /** Undefined: nobody, in time. */
  async #taken(log: ChangeLog, offeredAt: Offset, { deadlineMs }: Patience): Promise<Taken | undefined> {
    return this.#until(deadlineMs, async () => takenAfter(log, offeredAt));
  }

  /** Whether the new primary captures: then there is a record of it behind the one that began its epoch. */
  async #captures(log: ChangeLog, { offset }: Taken, { deadlineMs }: Patience): Promise<boolean> {
    const next = toOffset(offset + 1);
    return (await this.#until(deadlineMs, async () => (await log.get(next)) && true)) === true;
  }

  /** What `look` gives, as soon as it gives something; a log that is away may come back. */
  async #until<T>(deadlineMs: number, look: () => Promise<T | undefined>): Promise<T | undefined> {
    const { clock, signal } = this.#options;
    while (!signal.aborted && clock.monotonic() < deadlineMs) {
      const found = await look().catch((error: unknown) => {
        if (!hasCode(error, "LOG_UNREACHABLE")) throw error;
        return undefined;
      });
      if (found !== undefined) return found;
      await sleep(LOOK_MS, signal);
    }
    return undefined;
  }

  /** Undefined: this host is the primary. Otherwise the standby was faster. */
  async #undo(log: ChangeLog, offeredAt: Offset | undefined): Promise<Taken | undefined> {
    try {
      await this.#options.captureAgain();
      return undefined;
    } catch (error) {
      const taken = hasCode(error, "FENCED") && offeredAt !== undefined ? await takenAfter(log, offeredAt) : undefined;
      if (!taken) throw error;
      return taken;
    }
  }
}

function standingOf({ successor, asked }: Plan): SwitchoverReport["to"] {
  const { id, host, standby } = successor;
  const applied = appliedBy(successor);
  return { id, host, standby, applied, behind: Math.max(0, asked - applied) };
}
