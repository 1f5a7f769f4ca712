import { setImmediate as nextTurn } from "node:timers/promises";

import type { Offset } from "../../event/positions.ts";
import { type Clock, sleep } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { toTidemarkError } from "../../runtime/errors.ts";
import type { CaptureFeed } from "../capture-feed.ts";
import type { FilesFeed } from "./files-feed.ts";
import type { TreeCapture } from "./tree-seam.ts";

const STORE_EVERY_MS = 1000;
/** So many times as long as the last time took, too: most of the pages of the index are written each time, ... */
const STORE_SHARE = 20;
/** ... but no later than this many records behind: each is half a KiB of memory until then, and read by the next start. */
const MOST_RECORDS = 25_000;
const LONG_MS = 2 ** 31 - 1;

export interface IndexStoringOptions {
  readonly captures: readonly Pick<TreeCapture, "storing">[];
  readonly feed: { readonly writer: Pick<CaptureFeed["writer"], "acknowledged" | "head"> };
  readonly files: Pick<FilesFeed, "sent" | "unstored">;
  readonly clock: Clock;
  /** It could not be stored. */
  readonly onFailure: () => void;
}

/**
 * Stores in the index what the log has acknowledged, soon after there is something, whatever else goes on: scans and rounds
 * may take minutes, and what is not stored is kept in memory, and stored at once in the end.
 */
export class IndexStoring {
  readonly #options: IndexStoringOptions;
  #failure: { readonly cause: unknown } | undefined;
  /** Offset through which it was stored last. */
  #through: number;

  constructor(options: IndexStoringOptions) {
    this.#options = options;
    this.#through = options.feed.writer.acknowledged.offset;
  }

  /** Until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { files, feed, clock, onFailure } = this.#options;
    signal.addEventListener("abort", () => this.wake(), { once: true });
    try {
      for (let beganMs = 0, tookMs = 0; !signal.aborted;) {
        if (!files.unstored) await files.sent.wait(LONG_MS);
        await sleep(STORE_EVERY_MS, signal);
        await this.#untilDue(beganMs + tookMs * STORE_SHARE, signal);
        if (signal.aborted) break;
        beganMs = clock.monotonic();
        await this.#store(feed.writer.acknowledged.offset, signal);
        tookMs = clock.monotonic() - beganMs;
      }
    } catch (error) {
      this.#failure = { cause: error };
      onFailure();
    }
  }

  /** Something went to the log, perhaps of databases only: what a start has to read of it is kept short. */
  wake(): void {
    this.#options.files.sent.wake();
  }

  /** @throws what it could not be stored for */
  throwIfFailed(): void {
    if (this.#failure) throw toTidemarkError(this.#failure.cause);
  }

  /** Everything up to here is acknowledged. */
  all(acknowledged: Offset): void {
    for (const capture of this.#options.captures) for (const _step of capture.storing(acknowledged)) continue;
    this.#stored(acknowledged);
  }

  async #untilDue(dueMs: number, signal: AbortSignal): Promise<void> {
    const { clock, feed, files } = this.#options;
    while (!signal.aborted && feed.writer.acknowledged.offset - this.#through < MOST_RECORDS) {
      const leftMs = dueMs - clock.monotonic();
      if (leftMs <= 0) return;
      await files.sent.wait(leftMs);
    }
  }

  async #store(acknowledged: Offset, signal: AbortSignal): Promise<void> {
    for (const capture of this.#options.captures) {
      for (const _step of capture.storing(acknowledged)) {
        await nextTurn();
        if (signal.aborted) return;
      }
    }
    this.#stored(acknowledged);
  }

  #stored(acknowledged: Offset): void {
    const { files, feed } = this.#options;
    crashPoint("tree: index stored");
    this.#through = acknowledged;
    files.unstored &&= acknowledged < feed.writer.head;
  }
}
