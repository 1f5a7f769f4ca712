import { sleep } from "../../runtime/clock.ts";
import { hasCode, TidemarkError } from "../../runtime/errors.ts";
import { copyDatabase } from "./copy.ts";
import type { DatabaseParts } from "./database-parts.ts";
import type { Follower } from "./follower.ts";
import type { SourceDatabase } from "./source-database.ts";

const FIRST_BACK_OFF_MS = 100;
const MAX_BACK_OFF_MS = 5000;
/** A copy under way when the agent is stopped gets this long; then it is given up, and begun again at the next start. */
const COPY_GRACE_MS = 5000;

type Cause = "copy" | "repair";

/** Ships a copy when the log holds nothing of a database, else the difference; for as long as it takes. */
export class Difference {
  readonly #parts: DatabaseParts;
  #stoppedAtMs = Infinity;

  constructor(parts: DatabaseParts) {
    this.#parts = parts;
    const { stop, clock } = parts.options;
    const onStop = (): void => void (this.#stoppedAtMs = clock.monotonic());
    if (stop.aborted) onStop();
    else stop.addEventListener("abort", onStop, { once: true });
  }

  /** Starts again when a gap opens meanwhile. @throws INTERRUPTED when stopped on the way */
  async ship(follower: Follower, source: SourceDatabase): Promise<void> {
    const { options, progress, saver } = this.#parts;
    // Until the comparison is done nothing is proved: when it fails on the way, the next session must not resume.
    saver.shippedFile = undefined;
    for (let backOffMs = FIRST_BACK_OFF_MS; ; backOffMs = Math.min(backOffMs * 2, MAX_BACK_OFF_MS)) {
      try {
        await this.#attempt(follower, source);
        return;
      } catch (error) {
        if (!hasCode(error, "WAL_GAP")) throw error;
        // Said once while it stays the same: a damaged WAL is a gap for as long as it is there.
        if (progress.problem !== error.message) {
          options.logger.warn({ database: options.database.name }, error.message);
        }
        progress.enter("waiting", error.message);
      } finally {
        progress.copy = undefined;
      }
      await backOff(this.#parts, backOffMs);
      this.#giveUpWhenStopped();
      source.checkIdentity();
    }
  }

  async #attempt(follower: Follower, source: SourceDatabase): Promise<void> {
    const { options, shipper, progress, saver } = this.#parts;
    const cause: Cause = shipper.index.sizePages === 0 ? "copy" : "repair";
    progress.enter("copying", progress.problem);
    await options.room();
    const startedMs = options.clock.monotonic();
    const changeCounter = await copyDatabase({
      source,
      shipper,
      cause,
      gapSinceMs: progress.upToDateMs,
      progress: (done, total) => (progress.copy = { done, total }),
      sealIfLong: async (captures) => follower.sealIfLong(captures),
      pace: async (bytes) => this.#pace(bytes),
    });
    follower.startAt(changeCounter);
    saver.shippedFile = source.file;
    saver.changed({ urgent: true });
    progress.totals[cause === "copy" ? "copies" : "repairs"] += 1;
    progress.enter("following");
    const ms = Math.round(options.clock.monotonic() - startedMs);
    options.logger.info(
      { database: options.database.name, cause, pages: shipper.index.sizePages, ms },
      `${cause} done`,
    );
  }

  /** Yields to the event loop; keeps the configured rate. */
  async #pace(bytes: number): Promise<void> {
    const { config, stop } = this.#parts.options;
    const rate = config.copyBytesPerSecond;
    await sleep(rate ? (bytes / rate) * 1000 : 0, stop.aborted ? undefined : stop);
    this.#giveUpWhenStopped();
  }

  #giveUpWhenStopped(): void {
    const { clock, database, stop } = this.#parts.options;
    if (!stop.aborted || clock.monotonic() - this.#stoppedAtMs < COPY_GRACE_MS) return;
    throw new TidemarkError("INTERRUPTED", `the copy of ${database.name} was not finished`, {
      hint: "Nothing is lost: the next start begins it again.",
    });
  }
}

/** Nothing shortens it but a stop: an app that writes wakes us all the time. */
export async function backOff({ options: { stop } }: Pick<DatabaseParts, "options">, ms: number): Promise<void> {
  await sleep(ms, stop.aborted ? undefined : stop);
}
