import type { Logger } from "pino";

import { openLog, type OpenLogOptions, openLogPatiently } from "../compose.ts";
import type { Config } from "../config/config.ts";
import type { Offset } from "../event/positions.ts";
import { type HookResult, runHooks } from "../failover/hooks.ts";
import {
  examine,
  type Examined,
  isOwnEpoch,
  offerTo,
  patiently,
  requireApplied,
  type Standing,
  takeEpoch,
  wasPromoted,
} from "../failover/promote.ts";
import { seedCapture } from "../failover/seed-capture.ts";
import { promotedConfig, type PromotedRole, promotedState, writeRole } from "../failover/standby-role.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { currentEpoch } from "../log/log-reader.ts";
import type { PromoteReport, PromoteRequest } from "../observe/agent-control.ts";
import { StandbyState } from "../replica/standby-state.ts";
import type { Clock } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import { retry } from "../runtime/retry.ts";

export interface PromotionOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** The replica that follows; undefined while it does not. */
  readonly replica: () => { readonly agent: Standing; readonly log: ChangeLog } | undefined;
  /** Ends the replica; resolves when its files are closed. */
  readonly endReplica: () => Promise<void>;
  /** Resolves when it captures. @throws FENCED when another host was promoted meanwhile */
  readonly capture: (config: Config) => Promise<void>;
  /** The promotion that was under way failed, perhaps with the replica ended. */
  readonly onFailure: (error: unknown) => void;
  /** Something is in the way that may pass by itself; with the pause before the next attempt, if there is one. */
  readonly onProblem: (error: TidemarkError, pauseMs?: number) => void;
}

interface Promote extends PromoteRequest {
  /** By the primary, which hands over. */
  readonly offeredAt?: Offset | undefined;
}

const LONGEST_PAUSE_MS = 1000;
const UNASKED: Promote = { force: false, dryRun: false, timeoutMs: 60_000 };

interface Taken {
  readonly epoch: number;
  readonly offset: Offset;
}

/** Makes a primary of the standby of this process. */
export class Promotion {
  readonly #options: PromotionOptions;
  #underWay = false;
  /** Of a promotion during which the agent was killed. */
  #finishing: Promise<PromoteReport> | undefined;

  constructor(options: PromotionOptions) {
    this.#options = options;
  }

  /** @throws STANDBY_BEHIND, STANDBY_UNVERIFIED, PROMOTED_ELSEWHERE, LOG_UNREACHABLE, LOG_DENIED, AGENT_RUNNING */
  async promote(request: Promote): Promise<PromoteReport> {
    // Whoever gives the command again after a crash means that one.
    if (this.#finishing && !request.dryRun) return this.#finishing;
    if (this.#underWay) throw alreadyUnderWay();
    this.#underWay = true;
    try {
      return await this.#promote(request);
    } catch (error) {
      this.#options.onFailure(error);
      throw error;
    } finally {
      this.#underWay = false;
    }
  }

  /**
   * Goes on with a promotion that was cut off when the replica had done its part: all that others wrote is in the copies, and what else
   * is in them an application wrote that was sent here. A replica would take that back. False: there is none.
   */
  async resume(): Promise<boolean> {
    const beganMs = this.#options.clock.monotonic();
    const role = await this.#cutOff();
    if (!role) return false;
    this.#finishing = this.#captured(role, { reason: "promoted", beganMs }).then(({ durationMs, hooks }) => {
      return { ok: true, epoch: role.epoch, offset: role.offset, lost: { offsets: 0, ms: 0 }, durationMs, hooks };
    });
    void this.#finishing.catch(this.#options.onFailure).finally(() => (this.#finishing = undefined));
    return true;
  }

  async #cutOff(): Promise<PromotedRole | undefined> {
    const { config, signal, logger, onProblem } = this.#options;
    if (!wasPromoted(config)) return undefined;
    const position = StandbyState.positionIn(config.standby ?? "");
    if (!position) return undefined;
    await using log = await openLogPatiently({ ...this.#toRead, signal, onProblem, onRetry: onProblem });
    if (!log || !(await isOwnEpoch(config, log, signal))) return undefined;
    const { epoch, offset, start } = await currentEpoch(log, await log.bounds());
    // A log that was begun anew the replica has yet to recognise as the one that it follows.
    if (start?.reason === "new-log" || position.offset < offset - 1) return undefined;
    logger.warn({ epoch, offset }, "this standby was promoted when its agent ended: it goes on without a replica");
    return this.#becomePrimary({ epoch, offset });
  }

  /** Ends a promotion during which the agent was killed, or takes the place that the primary offers to the standby `id`. */
  async goOn(id: string): Promise<void> {
    const { config, signal, logger } = this.#options;
    const { log } = this.#replica();
    if (await isOwnEpoch(config, log, signal)) {
      if (this.#underWay) return;
      logger.warn("this standby was being promoted when its agent ended: it goes on");
      this.#finishing = this.promote(UNASKED);
      await this.#finishing.finally(() => (this.#finishing = undefined));
      return;
    }
    if (this.#underWay) return;
    const offeredAt = await offerTo(id, log);
    if (offeredAt === undefined) return;
    logger.warn({ offeredAt }, "the primary hands over to this standby");
    crashPoint("switchover: offer read");
    await this.promote({ ...UNASKED, offeredAt });
  }

  async #promote(request: Promote): Promise<PromoteReport> {
    const { config, clock, signal } = this.#options;
    const beganMs = clock.monotonic();
    const { agent, log } = this.#replica();
    const { timeoutMs, offeredAt } = request;
    const candidate = { config, log, replica: agent, clock, signal, offeredAt };
    const look = async (): Promise<Examined> => examine(candidate, timeoutMs);
    const examined = await patiently(look, { timeoutMs, signal });
    if (examined.refusal && !request.force) throw examined.refusal;
    const spent = (): number => Math.round(clock.monotonic() - beganMs);
    if (request.dryRun) {
      const next = { epoch: examined.epoch + (examined.ours ? 0 : 1), offset: examined.known.offset + 1 };
      return report({ ...next, dryRun: true }, { examined, durationMs: spent(), hooks: [] });
    }
    const role = await this.#takeOver(agent, examined, request);
    const reason = offeredAt === undefined ? "promoted" : "switchover";
    const taken = { epoch: role.epoch, offset: role.offset };
    return report(taken, { examined, ...(await this.#captured(role, { reason, beganMs })) });
  }

  /** From the role on the disk to the hooks. */
  async #captured(
    role: PromotedRole,
    { reason, beganMs }: { reason: string; beganMs: number },
  ): Promise<{ durationMs: number; hooks: HookResult[] }> {
    const { config, capture, clock, logger } = this.#options;
    await capture(promotedConfig(config, role));
    const durationMs = Math.round(clock.monotonic() - beganMs);
    const facts = { set: config.set, epoch: role.epoch, offset: role.offset, reason };
    const hooks = await runHooks(config.hooks.onPromote, { facts, timeoutMs: config.hooks.timeoutMs, logger });
    return { durationMs, hooks };
  }

  /** From the record in the log on: what is on disk says how far this came, and the next start goes on from there. */
  async #takeOver(agent: Standing, examined: Examined, { timeoutMs, offeredAt }: Promote): Promise<PromotedRole> {
    const { config, clock, signal, logger, endReplica } = this.#options;
    const asked = { ...this.#toRead, mode: "write", state: promotedState(config.standby ?? "") } as const;
    const open = async (): Promise<ChangeLog> => openLog(asked);
    await using log = await patiently(open, { timeoutMs, signal });
    const untilMs = clock.monotonic() + timeoutMs;
    const take = async (): Promise<Taken> => takeEpoch({ config, log, clock, signal, offeredAt, untilMs }, examined);
    const taken = await patiently(take, { timeoutMs, signal });
    logger.warn(taken, "this host is the primary from here on");
    crashPoint("promote: epoch begun");
    // And what a primary that was alive had appended until then.
    if (examined.lost.offsets === 0) await requireApplied(agent, { offset: taken.offset, timeoutMs, signal });
    await endReplica();
    return this.#becomePrimary(taken);
  }

  /** The replica has ended. Whoever follows relies on this host now, so a log that is away is waited for, with a new connection. */
  async #becomePrimary(taken: Taken): Promise<PromotedRole> {
    const { config, clock, signal, onProblem } = this.#options;
    const { set, standby = "" } = config;
    const seed = async (): ReturnType<typeof seedCapture> => {
      await using log = await openLog(this.#toRead);
      return await seedCapture({ set, standby, log, signal });
    };
    const members = await retry(seed, { signal, maxDelayMs: LONGEST_PAUSE_MS, onRetry: onProblem });
    crashPoint("promote: seeded");
    const role = { set, ...taken, at: new Date(clock.now()).toISOString(), ...members };
    writeRole(standby, role);
    crashPoint("promote: role noted");
    return role;
  }

  get #toRead(): OpenLogOptions {
    const { log, set, encryption } = this.#options.config;
    invariant(log !== undefined, "a replica has a log");
    return { log, set, encryption, mode: "read" };
  }

  #replica(): { readonly agent: Standing; readonly log: ChangeLog } {
    const found = this.#options.replica();
    if (found) return found;
    throw notFollowing();
  }
}

function report(
  taken: { readonly epoch: number; readonly offset: number; readonly dryRun?: true },
  { examined, durationMs, hooks }: { examined: Examined; durationMs: number; hooks: readonly HookResult[] },
): PromoteReport {
  const { epoch, offset, ...rest } = taken;
  return { ok: true, epoch, offset, lost: examined.lost, durationMs, hooks, ...rest };
}

function notFollowing(): TidemarkError {
  return new TidemarkError("AGENT_NOT_RUNNING", "the replica does not follow the log yet", {
    hint: "`tidemark status` tells what it waits for; try again when it follows.",
  });
}

function alreadyUnderWay(): TidemarkError {
  return new TidemarkError("AGENT_RUNNING", "this standby is being promoted just now", {
    hint: "Wait for the other command; `tidemark status` shows what became of it.",
  });
}
