import fs from "node:fs";

import { BEFORE_FIRST, type Offset } from "../../event/positions.ts";
import { readLogIdentity } from "../../log/log-reader.ts";
import type { Repository } from "../../repository/repository.ts";
import { sleep } from "../../runtime/clock.ts";
import { TidemarkError, toTidemarkError } from "../../runtime/errors.ts";
import { Waker } from "../../runtime/waker.ts";

import type { ReplicaStatus } from "../replica-agent.ts";
import { requireGoingOn } from "../standby-errors.ts";
import type { RepositoryToWrite, StartArchiveOptions } from "./archive-agent.ts";
import type { RepositoryStatus } from "./archive-status.ts";
import { Archiver } from "./archiver.ts";
import { BaseMaker, type MadeBase } from "./base-maker.ts";
import { BaseMemory } from "./base-memory.ts";
import { baseDueMs } from "./base-schedule.ts";

const FIRST_PAUSE_MS = 1000;
/** What a retry cannot heal may still be mended by somebody. */
const LONGEST_PAUSE_MS = 60_000;
/** Genesis, epoch, and the key if there is one. */
const BEGINNING_RECORDS = 3;
/** Between two looks at a log that holds nothing yet. */
const EMPTY_LOG_MS = 500;
/** Retention is applied after a base, and not more often. */
const EXPIRE_MS = 24 * 3_600_000;
/** A repository that nobody named is begun when the log is larger than this. */
const OWN_BYTES = 1024 ** 3;
const LOOK_MS = 60_000;
const LOOK_EVENTS = 100;
/** What a timer can wait at most. */
const LONGEST_WAIT_MS = 2 ** 31 - 1;

export interface RepositoryAgentOptions extends Omit<StartArchiveOptions, "repositories"> {
  readonly repository: RepositoryToWrite;
  /** There is another base. */
  readonly onBase: () => void;
}

/** What is there while a repository is open. */
interface Parts {
  readonly repository: Repository;
  readonly archiver: Archiver;
  readonly maker: BaseMaker;
}

type Work = "open" | "archive" | "base" | "expire";

/** One repository: its archiver and its bases, for as long as the agent runs. Whatever fails is begun again. */
export class RepositoryAgent {
  readonly #options: RepositoryAgentOptions;
  readonly #waker = new Waker();
  #waits: boolean;
  readonly #problems = new Map<Work, TidemarkError>();
  #parts: Parts | undefined;
  #asked: PromiseWithResolvers<MadeBase> | undefined;
  #basesAbandoned = 0;
  #expired: { readonly atMs: number; readonly monotonicMs: number } | undefined;

  constructor(options: RepositoryAgentOptions) {
    this.#options = options;
    this.#waits = !options.repository.isWanted();
  }

  status(): RepositoryStatus {
    const { repository } = this.#options;
    const [problem] = this.#problems.values();
    return {
      location: repository.location,
      problem: problem?.message,
      archived: this.#parts?.archiver.archived,
      base: this.#parts?.maker.newest,
      baseUnderWay: this.#parts?.maker.underWay,
      basesAbandoned: this.#basesAbandoned,
      expiredMs: this.#expired?.atMs,
      bytes: this.#parts && this.#parts.repository.blobs.figures().bytes + this.#parts.archiver.bytes,
      requests: repository.requests(),
    };
  }

  /** Whether it is not begun yet, and need not be. */
  get waits(): boolean {
    return this.#waits;
  }

  get location(): string {
    return this.#options.repository.location;
  }

  get safe(): Offset {
    const { archiver, maker } = this.#parts ?? {};
    const base = maker?.newest?.offset ?? BEFORE_FIRST;
    const leads = archiver !== undefined && base >= archiver.chainAfter && (archiver.archived?.offset ?? 0) >= base;
    return leads ? base : BEFORE_FIRST;
  }

  /** Asks the store whether a verified base is there that is no older. @throws what the store throws */
  async confirm(through: Offset, signal: AbortSignal): Promise<boolean> {
    const { bases } = this.#parts?.repository ?? {};
    if (!bases) return false;
    const verified = await bases.verified(signal);
    return (await bases.list(signal)).some(({ offset, uuid }) => offset >= through && verified.has(uuid));
  }

  /** The next base that is begun. @throws what it fails of; INTERRUPTED */
  createBase(signal: AbortSignal): Promise<MadeBase> {
    this.#asked ??= Promise.withResolvers();
    this.#asked.promise.catch(() => undefined);
    const { promise } = this.#asked;
    this.#waker.wake();
    const given = Promise.withResolvers<never>();
    const abort = (): void => given.reject(stopped(this.#options.repository.location));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    return Promise.race([promise, given.promise]).finally(() => signal.removeEventListener("abort", abort));
  }

  async run(): Promise<void> {
    const { signal, repository } = this.#options;
    await using scope = new AsyncDisposableStack();
    const parts = await this.#patiently("open", () => this.#open(scope));
    if (parts) {
      this.#parts = parts;
      await Promise.all([this.#patiently("archive", () => parts.archiver.run(signal)), this.#makeBases(parts)]);
    }
    this.#asked?.reject(stopped(repository.location));
  }

  /** One that nobody named waits until the log is large, and larger than twice what it is of: its history takes room twice, then. */
  async #wanted(): Promise<void> {
    const { repository, replica, log, signal } = this.#options;
    const wake = (): void => this.#waker.wake();
    signal.addEventListener("abort", wake, { once: true });
    let looked = -Infinity;
    while (!this.#asked && !repository.isWanted()) {
      const status = replica.status();
      // Heartbeats alone are no reason to ask the log.
      if (status.offset - looked >= LOOK_EVENTS) {
        looked = status.offset;
        if ((await log.bounds()).bytes > Math.max(OWN_BYTES, 2 * bytesOf(status))) break;
      }
      await this.#waker.wait(LOOK_MS);
      requireGoingOn(signal);
    }
    signal.removeEventListener("abort", wake);
    this.#waits = false;
  }

  async #open(scope: AsyncDisposableStack): Promise<Parts> {
    await this.#wanted();
    const { repository: toOpen, log, replica, signal, clock, logger, standby } = this.#options;
    const logId = await this.#logId();
    const repository = await toOpen.open(signal);
    try {
      const onProgress = (): void => {
        this.#problems.delete("archive");
        this.#waker.wake();
      };
      const memory = BaseMemory.open({ standby, repositoryId: repository.config.id, logId });
      scope.use(repository);
      scope.use(memory);
      const archiver = new Archiver({
        repository,
        log,
        logId,
        content: (chunk) => replica.content(chunk),
        clock,
        logger,
        onProgress,
      });
      const maker = new BaseMaker({ repository, replica, archiver, memory, log, standby, clock });
      await maker.readNewest(signal);
      await archiver.survey(maker.newest?.offset ?? BEFORE_FIRST, signal);
      return { repository, archiver, maker };
    } catch (error) {
      await repository[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Once the log says all that it begins with: whether it is encrypted, too. */
  async #logId(): Promise<string> {
    const { log, signal } = this.#options;
    while ((await log.bounds()).last < BEGINNING_RECORDS) {
      await sleep(EMPTY_LOG_MS, signal);
      requireGoingOn(signal);
    }
    return (await readLogIdentity(log, signal)).logId;
  }

  /** Tries again until it resolves, or until the agent stops. */
  async #patiently<T>(work: Work, attempt: () => Promise<T>): Promise<T | undefined> {
    const { signal } = this.#options;
    for (let pauseMs = FIRST_PAUSE_MS; !signal.aborted; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      try {
        const result = await attempt();
        this.#problems.delete(work);
        return result;
      } catch (error) {
        if (signal.aborted) return undefined;
        // It went well in between.
        if (!this.#problems.has(work)) pauseMs = FIRST_PAUSE_MS;
        this.#tell(work, toTidemarkError(error), pauseMs);
      }
      await sleep(pauseMs * (0.75 + Math.random() / 2), signal);
    }
    return undefined;
  }

  #tell(work: Work, error: TidemarkError, pauseMs: number): void {
    const { code, hint, message } = error;
    this.#problems.set(work, error);
    this.#options.logger.warn({ work, code, hint, retryInMs: Math.round(pauseMs) }, message);
  }

  async #makeBases(parts: Parts): Promise<void> {
    const { signal, clock } = this.#options;
    signal.addEventListener("abort", () => this.#waker.wake(), { once: true });
    let notBeforeMs = 0;
    for (let pauseMs = FIRST_PAUSE_MS; !signal.aborted;) {
      const waitMs = this.#asked ? 0 : Math.max(this.#dueMs(parts), notBeforeMs - clock.monotonic());
      if (waitMs > 0) {
        await this.#waker.wait(Math.min(waitMs, LONGEST_WAIT_MS));
        continue;
      }
      const made = await this.#makeBase(parts, pauseMs);
      if (made) await this.#expire(parts);
      notBeforeMs = clock.monotonic() + (made ? 0 : pauseMs);
      pauseMs = made ? FIRST_PAUSE_MS : Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
  }

  /** While the archive is in trouble a base would be too: it is looked at again when that is over. */
  #dueMs({ maker, archiver }: Parts): number {
    const { repository, clock } = this.#options;
    const base = repository.base ?? this.#options.base;
    if (!archiver.runs) return Infinity;
    const { newest } = maker;
    if (newest && newest.offset < archiver.chainAfter) return 0;
    const changedBytes = archiver.changedBytes - maker.changedBytesAtNewest;
    return baseDueMs(base, { nowMs: clock.now(), madeMs: newest?.atMs, changedBytes });
  }

  /** What fails is tried again after the next base. */
  async #expire({ repository, archiver }: Parts): Promise<void> {
    const { signal, clock, logger, base, repository: toOpen } = this.#options;
    const { expiry } = toOpen;
    const last = this.#expired?.monotonicMs ?? -Infinity;
    if (!expiry || clock.monotonic() - last < EXPIRE_MS) return;
    const began = { atMs: clock.now(), monotonicMs: clock.monotonic() };
    try {
      const { expireRepository } = await import("../../repository/expire/expire.ts");
      const { freed, later } = await expireRepository(repository, { ...expiry, confirm: true, clock, signal });
      await archiver.recount(signal);
      this.#expired = began;
      this.#problems.delete("expire");
      logger.info({ freed, later }, `${repository.location}: ${freed.bytes} bytes removed, ${later.bytes} marked`);
    } catch (error) {
      const failure = toTidemarkError(error);
      // Somebody restores, or expires: that is no trouble.
      if (failure.code === "REPOSITORY_LOCKED") logger.info({ work: "expire" }, failure.message);
      else if (!signal.aborted) this.#tell("expire", failure, base.everyMs);
    }
  }

  async #makeBase({ maker }: Parts, pauseMs: number): Promise<boolean> {
    const { signal, logger } = this.#options;
    const asked = this.#asked;
    this.#asked = undefined;
    try {
      const made = await maker.make(signal);
      this.#problems.delete("base");
      logger.info({ ...made }, `${made.location}: base at offset ${made.offset}`);
      asked?.resolve(made);
      this.#options.onBase();
      return true;
    } catch (error) {
      const failure = toTidemarkError(error);
      if (failure.code === "BASE_ABANDONED") this.#basesAbandoned += 1;
      if (!signal.aborted) this.#tell("base", failure, pauseMs);
      asked?.reject(failure);
      return false;
    }
  }
}

/** Of a standby, as it is on disk. */
function bytesOf({ databases, trees }: ReplicaStatus): number {
  const files = databases.map(({ path }) => fs.statSync(path, { throwIfNoEntry: false })?.size ?? 0);
  return [...files, ...trees.map(({ bytes }) => bytes)].reduce((sum, bytes) => sum + bytes, 0);
}

function stopped(location: string): TidemarkError {
  return new TidemarkError("INTERRUPTED", `${location}: the agent was stopped before the base was there`, {
    hint: "Start it again; what was stored is not sent again.",
  });
}
