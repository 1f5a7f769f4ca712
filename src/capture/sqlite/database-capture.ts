import { type TidemarkError, toTidemarkError } from "../../runtime/errors.ts";
import { Waker } from "../../runtime/waker.ts";
import type { DatabaseCaptureStatus } from "../capture-agent.ts";
import type { DatabaseCaptureOptions, DatabaseParts } from "./database-parts.ts";
import { DatabaseProgress } from "./database-progress.ts";
import { DatabaseSession } from "./database-session.ts";
import { backOff, Difference } from "./difference.ts";
import { IndexSaver } from "./index-saver.ts";
import { LogRoom } from "./log-room.ts";
import type { PinHolder } from "./pin-budget.ts";
import { preflight, setWalMode } from "./preflight.ts";
import { type FileLook, isUnmoved, lookAtFiles } from "./resting-files.ts";
import { Scrub } from "./scrub.ts";
import { Shipper } from "./shipper.ts";
import { SyncRequests } from "./sync-requests.ts";

const FIRST_BACK_OFF_MS = 100;
const MAX_BACK_OFF_MS = 5000;
/** Between two looks at a database that cannot be captured as it is: missing, not in WAL mode, not readable. */
const LOOK_AGAIN_MS = 1000;

/** One database from first to last: held open and followed, resting, or waited for. */
export class DatabaseCapture implements PinHolder {
  readonly name: string;
  /** Resolves when the log holds the database as of now (sent, perhaps not yet acknowledged), or it must be waited for. */
  readonly ready = Promise.withResolvers<void>();
  readonly #parts: DatabaseParts;
  readonly #difference: Difference;
  readonly #scrub: Scrub;
  #session: DatabaseSession | undefined;
  #backOffMs = FIRST_BACK_OFF_MS;

  constructor(options: DatabaseCaptureOptions) {
    const room = new LogRoom(options);
    const slack = new LogRoom({ ...options, room: options.slack });
    const whileAway = (): void => this.#session?.letGoOfLongWal();
    const waitForRoom = async (): Promise<void> => room.wait(whileAway);
    const shipper = new Shipper(
      { ...options.shipper, database: options.database.name, room: waitForRoom },
      options.shipped,
    );
    this.name = options.database.name;
    this.#parts = {
      options,
      shipper,
      waitForRoom,
      waitForSlack: async () => slack.wait(whileAway),
      progress: new DatabaseProgress(options.shippedAtMs),
      saver: new IndexSaver(shipper, options),
      syncs: new SyncRequests(),
      waker: new Waker(),
    };
    this.#difference = new Difference(this.#parts);
    this.#scrub = new Scrub(this.#parts, this.#difference, options.scrub);
    this.ready.promise.catch(() => undefined);
  }

  get path(): string {
    return this.#parts.options.database.path;
  }

  /** Resolves after a stop with everything captured; rejects with what cannot be retried. */
  async run(): Promise<void> {
    const { clock, stop } = this.#parts.options;
    for (;;) {
      const startedMs = clock.monotonic();
      try {
        if ((await this.#openAndRest()) === "stopped") return this.#end(undefined);
      } catch (error) {
        const problem = toTidemarkError(error);
        if (problem.code === "INTERRUPTED") return this.#end(problem);
        if (!this.#worthRetrying(problem)) {
          this.#end(problem);
          throw problem;
        }
        if (clock.monotonic() - startedMs > MAX_BACK_OFF_MS) this.#backOffMs = FIRST_BACK_OFF_MS;
        await this.#waitOut(problem);
        if (stop.aborted) return this.#end(problem);
      }
    }
  }

  /** Something happened that it should see at once: the stop, for one. */
  wake(): void {
    this.#parts.waker.wake();
  }

  /** Resolves when everything committed before the call is sent to the log. */
  async sync(): Promise<void> {
    const synced = this.#parts.syncs.ask();
    this.#parts.waker.wake();
    await synced;
  }

  status(): DatabaseCaptureStatus {
    const { options, progress, shipper } = this.#parts;
    const { state, problem, totals, copy } = progress;
    const counters = this.#session?.follower.counters;
    return {
      name: options.database.name,
      path: options.database.path,
      state,
      problem,
      pages: shipper.index.sizePages,
      commits: totals.commits + (counters?.commits ?? 0),
      copies: totals.copies,
      repairs: totals.repairs,
      seals: totals.seals + (counters?.seals ?? 0),
      ways: totals.ways + (counters?.ways ?? 0),
      walBytes: this.#session?.follower.walBytes ?? 0,
      copy,
      scrub: this.#scrub.status(),
    };
  }

  get movedAtMs(): number {
    return this.#session?.movedAtMs ?? 0;
  }

  get restable(): boolean {
    return this.#session?.restable ?? false;
  }

  rest(): void {
    this.#session?.rest();
  }

  /**
   * Before the first session a missing or unsuitable database that the user listed is a mistake and ends the agent;
   * afterwards it was deleted or replaced under us, and capture waits for it.
   */
  #worthRetrying(problem: TidemarkError): boolean {
    if (problem.retryable) return true;
    const { progress, options } = this.#parts;
    const started = progress.totals.copies + progress.totals.repairs > 0 || options.mayWait;
    return started && problem.code.startsWith("DATABASE_");
  }

  /** Says what is wrong, once while it stays the same, and waits a little. */
  async #waitOut(problem: TidemarkError): Promise<void> {
    const { options, progress, syncs } = this.#parts;
    const { database, logger } = options;
    this.#scrub.abandon();
    const text = `${problem.code}: ${problem.message}`;
    if (progress.problem !== text) logger.warn({ database: database.name, code: problem.code }, problem.message);
    const vanished = problem.code === "DATABASE_MISSING" && database.byPattern;
    progress.enter(vanished ? "vanished" : "waiting", text);
    if (problem.retryable) {
      await backOff(this.#parts, this.#backOffMs);
      this.#backOffMs = Math.min(this.#backOffMs * 2, MAX_BACK_OFF_MS);
      return;
    }
    // Somebody must do something about it: until then nobody waits for this one.
    syncs.standAside();
    this.ready.resolve();
    await backOff(this.#parts, LOOK_AGAIN_MS);
  }

  #end(problem: TidemarkError | undefined): void {
    const { progress, syncs } = this.#parts;
    progress.enter("stopped", problem && `${problem.code}: ${problem.message}`);
    if (problem) this.ready.reject(problem);
    syncs.end(problem);
  }

  async #openAndRest(): Promise<"stopped" | "moved"> {
    const { budget } = this.#parts.options;
    this.#requireSuitable();
    await budget.take(this);
    let restingAs: FileLook | undefined;
    try {
      const session = new DatabaseSession(this.#parts, this.#difference, this.#scrub);
      if ((await this.#runSession(session)) === "stopped") return "stopped";
      restingAs = session.lookBack();
    } finally {
      budget.release(this);
    }
    return restingAs ? this.#restUntilMoved(restingAs) : "moved";
  }

  /** Without opening it. @throws DATABASE_* */
  #requireSuitable(): void {
    const { database, config } = this.#parts.options;
    try {
      preflight(database.path);
    } catch (error) {
      const problem = toTidemarkError(error);
      if (problem.code !== "DATABASE_NOT_WAL" || !config.setWal) throw problem;
      setWalMode(database.path, { waitMs: 0 });
    }
  }

  async #runSession(session: DatabaseSession): Promise<"stopped" | "rest"> {
    const { progress, syncs, options } = this.#parts;
    this.#session = session;
    // It is there again, and may have to be read first: who asks from now on waits for that.
    syncs.expect();
    try {
      return await session.run(() => {
        this.#backOffMs = FIRST_BACK_OFF_MS;
        this.ready.resolve();
        options.budget.press();
      });
    } finally {
      this.#session = undefined;
      this.#scrub.abandon();
      progress.totals.commits += session.follower.counters.commits;
      progress.totals.seals += session.follower.counters.seals;
      progress.totals.ways += session.follower.counters.ways;
      await session.close();
    }
  }

  /** Holds nothing open. A look that finds nothing moved proves that the log holds everything. */
  async #restUntilMoved(before: FileLook): Promise<"stopped" | "moved"> {
    const { options, progress, syncs, saver, waker } = this.#parts;
    const { database, clock, rounds, stop } = options;
    const isQuiet = (): boolean => {
      if (!isUnmoved(before, lookAtFiles(database.path, clock.now()))) return false;
      progress.upToDateMs = clock.now();
      return true;
    };
    progress.enter("resting");
    using _ = rounds.add(database.path, () => {
      if (saver.due || this.#scrub.isDue() || !isQuiet()) waker.wake();
    });
    while (isQuiet() && !this.#scrub.isDue()) {
      syncs.answer();
      if (stop.aborted) {
        syncs.end(undefined);
        await saver.saveIfDirty();
        return "stopped";
      }
      await saver.saveIfDue();
      await waker.wait(LONG_MS);
    }
    return "moved";
  }
}

/** As long as a timer can. */
const LONG_MS = 2 ** 31 - 1;
