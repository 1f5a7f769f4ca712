import type { Logger } from "pino";

import type { TrimConfig } from "../../config/config.ts";
import { BEFORE_FIRST, offset as toOffset, type Offset } from "../../event/positions.ts";
import type { ChangeLog, LogBounds, RegisteredReplica } from "../../log/change-log.ts";
import { headerAt } from "../../log/log-reader.ts";
import { trimBound } from "../../log/trim-bound.ts";
import type { Clock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { toTidemarkError } from "../../runtime/errors.ts";
import { Waker } from "../../runtime/waker.ts";
import type { ReplicaAgent } from "../replica-agent.ts";
import { forgottenText, shownReplica, type TrimStatus } from "./archive-status.ts";

/** Between two looks, when nothing else wakes it. */
const LOOK_MS = 60_000;
/** Less than this share of what may stay is not worth a trim. */
const WORTH = 1 / 16;

/** What a repository says about trimming. */
export interface TrimmedRepository {
  readonly location: string;
  /** A verified base is at this offset, and everything up to it is archived, as far as is known. */
  readonly safe: Offset;
  /** Asks the store whether it still is so. */
  confirm(through: Offset, signal: AbortSignal): Promise<boolean>;
}

export interface TrimmerOptions {
  readonly config: TrimConfig;
  /** How often a base is made: what is held up for no longer is no news. */
  readonly baseEveryMs: number;
  readonly log: ChangeLog;
  readonly replica: ReplicaAgent;
  /** Those that are in use. */
  readonly repositories: () => readonly TrimmedRepository[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/** Somebody who needs what comes after `through`. */
interface Limit {
  readonly through: Offset;
  readonly who: string;
}

/**
 * Removes from the log what is in a verified base of enough repositories, is archived, and is needed by no standby. The
 * newest events stay in any case.
 */
export class Trimmer {
  readonly #options: TrimmerOptions;
  readonly #waker = new Waker();
  readonly #told = new Set<string>();
  #status: TrimStatus = { heldBy: undefined, overdue: false, forgotten: [] };

  constructor(options: TrimmerOptions) {
    this.#options = options;
  }

  /** There is another base. */
  wake(): void {
    this.#waker.wake();
  }

  status(): TrimStatus {
    return this.#status;
  }

  async run(): Promise<void> {
    const { signal, logger } = this.#options;
    const stop = (): void => this.#waker.wake();
    signal.addEventListener("abort", stop, { once: true });
    while (!signal.aborted) {
      try {
        await this.#look();
      } catch (thrown) {
        if (signal.aborted) break;
        const { code, hint, message } = toTidemarkError(thrown);
        if (this.#status.heldBy !== message) logger.warn({ work: "trim", code, hint }, message);
        this.#status = { ...this.#status, heldBy: message };
      }
      await this.#waker.wait(LOOK_MS);
    }
    signal.removeEventListener("abort", stop);
  }

  async #look(): Promise<void> {
    const { log, config, clock, signal } = this.#options;
    if (this.#options.repositories().length === 0) return;
    const bounds = await log.bounds();
    const registered = await log.replicas();
    const forgotten = registered.filter(({ atMs }) => clock.now() - atMs > config.forgetMs);
    this.#tell(forgotten);
    const limit = this.#limit(registered.filter((replica) => !forgotten.includes(replica)));
    if (bounds.bytes < config.aboveBytes) {
      this.#status = { heldBy: undefined, overdue: false, forgotten };
      return;
    }
    const kept = limit.through < bounds.first ? limit.through : await log.locate(clock.now() - config.keepMs);
    const heldBy = limit.through > kept || limit.through >= bounds.last ? undefined : limit.who;
    const overdue = heldBy !== undefined && (await this.#isOverdue(bounds, limit.through));
    this.#status = { heldBy, overdue, forgotten };
    const wanted = toOffset(Math.min(limit.through, kept));
    if (!this.#isWorth(bounds, wanted)) return;
    const through = await trimBound(log, wanted, signal);
    if (through < bounds.first || !(await this.#isConfirmed(through))) return;
    await this.#trim(bounds, through);
  }

  async #trim(bounds: LogBounds, through: Offset): Promise<void> {
    const { log, logger } = this.#options;
    crashPoint("trim: decided");
    await log.trim(through);
    crashPoint("trim: done");
    logger.info({ first: bounds.first, through }, `${log.location}: trimmed through offset ${through}`);
  }

  /** Whoever needs most: repositories, this standby, the others. */
  #limit(registered: readonly RegisteredReplica[]): Limit {
    const { replica } = this.#options;
    const { id, offset } = replica.recorded();
    const others = registered.filter((other) => other.id !== id);
    const limits: Limit[] = [
      this.#repositories(),
      { through: offset, who: `this standby has recorded what it has applied up to offset ${offset} only` },
      ...others.map((other) => ({
        through: other.offset,
        who: `the standby ${shownReplica(other)} is at offset ${other.offset}`,
      })),
    ];
    return limits.reduce((least, one) => (one.through < least.through ? one : least));
  }

  /** Of as many as are asked for the one that is least far. */
  #repositories(): Limit {
    const { config } = this.#options;
    const repositories = this.#options.repositories();
    const enough = Math.min(config.verifiedIn ?? repositories.length, repositories.length);
    const furthest = repositories.toSorted((one, other) => other.safe - one.safe);
    const last = furthest[enough - 1];
    if (!last) return { through: BEFORE_FIRST, who: "there is no repository" };
    const since = last.safe > 0 ? `no verified base after offset ${last.safe}` : "no verified base";
    return { through: last.safe, who: `the repository ${last.location} has ${since}` };
  }

  async #isConfirmed(through: Offset): Promise<boolean> {
    const { config, signal } = this.#options;
    const repositories = this.#options.repositories();
    const enough = Math.min(config.verifiedIn ?? repositories.length, repositories.length);
    const safe = repositories.filter((repository) => repository.safe >= through);
    const confirmed = await Promise.allSettled(safe.map((repository) => repository.confirm(through, signal)));
    const count = confirmed.filter((one) => one.status === "fulfilled" && one.value).length;
    if (count >= enough) return true;
    this.#status = { ...this.#status, heldBy: `${count} of ${enough} repositories show their verified base` };
    return false;
  }

  #isWorth({ first, last, bytes }: LogBounds, through: Offset): boolean {
    const share = (through - first + 1) / Math.max(1, last - first + 1);
    return share > 0 && bytes * share >= this.#options.config.aboveBytes * WORTH;
  }

  /** Whether the first event that is held should have gone by now. */
  async #isOverdue({ first, last }: LogBounds, through: Offset): Promise<boolean> {
    const { log, clock, config, baseEveryMs } = this.#options;
    const at = toOffset(Math.max(first, through + 1));
    if (at > last) return false;
    const { timeMs } = await headerAt(log, at);
    return clock.now() - timeMs > config.keepMs + 2 * baseEveryMs;
  }

  #tell(forgotten: readonly RegisteredReplica[]): void {
    for (const replica of forgotten) {
      if (this.#told.has(replica.id)) continue;
      this.#told.add(replica.id);
      this.#options.logger.warn({ replica }, forgottenText(replica));
    }
  }
}
