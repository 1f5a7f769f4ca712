import { sleep } from "../../runtime/clock.ts";
import { hasCode, TidemarkError } from "../../runtime/errors.ts";
import { copyDatabase } from "./copy.ts";
import { CopyPace } from "./copy-pace.ts";
import type { DatabaseParts } from "./database-parts.ts";
import type { Follower } from "./follower.ts";
import type { SourceDatabase } from "./source-database.ts";

const FIRST_BACK_OFF_MS = 100;
const MAX_BACK_OFF_MS = 5000;
/** A copy under way when the agent is stopped is finished if that takes no longer than this. */
const FINISH_MS = 1000;

/** Ships a copy when the log holds nothing of a database, else the difference; for as long as it takes. */
export class Difference {
  readonly #parts: DatabaseParts;

  constructor(parts: DatabaseParts) {
    this.#parts = parts;
  }

  /** Tries again, and goes on where it was, when a gap opens meanwhile. @throws INTERRUPTED when stopped on the way */
  async ship(follower: Follower, source: SourceDatabase): Promise<void> {
    const { options, progress, saver } = this.#parts;
    saver.copying();
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
      if (options.stop.aborted) await this.#giveUp(source);
      source.checkIdentity();
    }
  }

  async #attempt(follower: Follower, source: SourceDatabase): Promise<void> {
    const { options, shipper, progress, saver, waitForSlack } = this.#parts;
    const { clock, config, database, logger } = options;
    progress.enter("copying", progress.problem);
    await options.room();
    const startedMs = clock.monotonic();
    const pace = new CopyPace(config.copyBytesPerSecond, clock);
    const { cause, changeCounter } = await copyDatabase({
      source,
      shipper,
      gapSinceMs: progress.upToDateMs,
      sliceBytes: pace.sliceBytes,
      progress: (done, total) => (progress.copy = { done, total }),
      room: waitForSlack,
      sealIfLong: async (captures) => follower.sealIfLong(captures),
      afterSlice: async (bytes) => {
        const { done, total } = progress.copy ?? { done: 0, total: 0 };
        if (done < total) await saver.saveCopyIfDue(source.file);
        await pace.after(bytes, options.stop.aborted ? undefined : options.stop);
        if (options.stop.aborted && this.#takesLong(startedMs)) await this.#giveUp(source);
      },
    });
    follower.startAt(changeCounter);
    saver.shippedFile = source.file;
    // At once: an agent killed right after a long copy must not read it all again.
    saver.changed({ urgent: true });
    progress.totals[cause === "copy" ? "copies" : "repairs"] += 1;
    progress.enter("following");
    const ms = Math.round(clock.monotonic() - startedMs);
    logger.info({ database: database.name, cause, pages: shipper.index.sizePages, ms }, `${cause} done`);
  }

  /** Whether the rest, at the pace until now, takes longer than a stop may. */
  #takesLong(startedMs: number): boolean {
    const { done, total } = this.#parts.progress.copy ?? { done: 0, total: 1 };
    const elapsedMs = this.#parts.options.clock.monotonic() - startedMs;
    return done === 0 || (elapsedMs / done) * (total - done) > FINISH_MS;
  }

  async #giveUp(source: SourceDatabase): Promise<never> {
    await this.#parts.saver.saveCopy(source.file);
    throw new TidemarkError("INTERRUPTED", `the copy of ${this.#parts.options.database.name} was not finished`, {
      hint: "Nothing is lost: the next start goes on with it.",
    });
  }
}

/** Nothing shortens it but a stop: an app that writes wakes us all the time. */
export async function backOff({ options: { stop } }: Pick<DatabaseParts, "options">, ms: number): Promise<void> {
  await sleep(ms, stop.aborted ? undefined : stop);
}
