import { type TidemarkError, toTidemarkError } from "../../runtime/errors.ts";
import { Waker } from "../../runtime/waker.ts";
import type { DatabaseCaptureStatus } from "../capture-agent.ts";
import type { DatabaseCaptureOptions, DatabaseParts } from "./database-parts.ts";
import { DatabaseProgress } from "./database-progress.ts";
import { DatabaseSession } from "./database-session.ts";
import { backOff, Difference } from "./difference.ts";
import { IndexSaver } from "./index-saver.ts";
import { LogRoom } from "./log-room.ts";
import { Shipper } from "./shipper.ts";
import { SyncRequests } from "./sync-requests.ts";

const FIRST_BACK_OFF_MS = 100;
const MAX_BACK_OFF_MS = 5000;

/** One database from opening to the last look: one session after the other, for as long as its file is the app's. */
export class DatabaseCapture {
  /** Resolves when the log holds the database as of now (sent, perhaps not yet acknowledged). */
  readonly ready = Promise.withResolvers<void>();
  readonly #parts: DatabaseParts;
  readonly #difference: Difference;
  #session: DatabaseSession | undefined;

  constructor(options: DatabaseCaptureOptions) {
    const room = new LogRoom(options);
    const waitForRoom = async (): Promise<void> => room.wait(() => this.#session?.letGoOfLongWal());
    const shipper = new Shipper(
      { ...options.shipper, database: options.database.name, room: waitForRoom },
      options.shipped,
    );
    this.#parts = {
      options,
      shipper,
      waitForRoom,
      progress: new DatabaseProgress(options.shippedAtMs),
      saver: new IndexSaver(shipper, options),
      syncs: new SyncRequests(),
      waker: new Waker(),
    };
    this.#difference = new Difference(this.#parts);
    options.stop.addEventListener("abort", () => this.#parts.waker.wake(), { once: true });
    this.ready.promise.catch(() => undefined);
  }

  /** Resolves after a stop with everything captured; rejects with what cannot be retried. */
  async run(): Promise<void> {
    const { options, progress } = this.#parts;
    const { clock, database, logger, stop } = options;
    let backOffMs = FIRST_BACK_OFF_MS;
    for (;;) {
      const startedMs = clock.monotonic();
      try {
        await this.#runSession();
        return this.#end(undefined);
      } catch (error) {
        const problem = toTidemarkError(error);
        if (problem.code === "INTERRUPTED") return this.#end(problem);
        if (!this.#worthRetrying(problem)) {
          this.#end(problem);
          throw problem;
        }
        if (clock.monotonic() - startedMs > MAX_BACK_OFF_MS) backOffMs = FIRST_BACK_OFF_MS;
        progress.enter("waiting", `${problem.code}: ${problem.message}`);
        logger.warn({ database: database.name, code: problem.code }, problem.message);
        await backOff(this.#parts, backOffMs);
        backOffMs = Math.min(backOffMs * 2, MAX_BACK_OFF_MS);
        if (stop.aborted) return this.#end(problem);
      }
    }
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
      walBytes: this.#session?.follower.walBytes ?? 0,
      copy,
    };
  }

  /**
   * Before the first session a missing or unsuitable database is the user's mistake and ends the agent; afterwards it
   * was deleted or replaced under us, and capture waits for it.
   */
  #worthRetrying(problem: TidemarkError): boolean {
    if (problem.retryable) return true;
    const { progress, options } = this.#parts;
    const started = progress.totals.copies + progress.totals.repairs > 0 || options.shipped !== undefined;
    return started && problem.code.startsWith("DATABASE_");
  }

  #end(problem: TidemarkError | undefined): void {
    const { progress, syncs } = this.#parts;
    progress.enter("stopped", problem && `${problem.code}: ${problem.message}`);
    if (problem) this.ready.reject(problem);
    syncs.end(problem);
  }

  async #runSession(): Promise<void> {
    const { totals } = this.#parts.progress;
    const session = new DatabaseSession(this.#parts, this.#difference);
    this.#session = session;
    try {
      await session.run(() => this.ready.resolve());
    } finally {
      this.#session = undefined;
      totals.commits += session.follower.counters.commits;
      totals.seals += session.follower.counters.seals;
      await session.close();
    }
  }
}
