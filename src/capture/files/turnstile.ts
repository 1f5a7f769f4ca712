import { type Clock, sleep } from "../../runtime/clock.ts";
import { mergeCommits } from "../merge-commits.ts";
import type { ShipQueue } from "../ship-queue.ts";
import type { Sentinel } from "./sentinel.ts";
import type { Fetched } from "./sight.ts";
import type { TreeSide } from "./tree-side.ts";

const FETCH_PATIENCE_MS = 1000;

export interface TurnstileOptions {
  readonly trees: readonly TreeSide[];
  readonly queue: ShipQueue;
  readonly sentinel: Sentinel;
  /** Resolves when every commit made before the call is in `queue`, or in the log. */
  readonly syncDatabases: () => Promise<void>;
  /** The sentinel was not announced. */
  readonly onUnannounced: () => void;
  readonly clock: Clock;
}

/** How the commits that were taken may pass. */
export interface Way {
  /** The log has every file that was complete before them. */
  readonly isClear: boolean;
  /** Between them it would show rows without files: as one. */
  readonly merge: boolean;
}

/**
 * Captures what the commits in the queue may have rows of.
 *
 * What was there when the last of them was made is in the log then. It was announced before it is looked at; and if it was
 * deleted meanwhile it was held, or it is known that it was lost. What was lost may have a row in the commits, and then the
 * commit that deletes the row was made before. So the commits are fetched: all that were made before one moment, and none
 * made after another. What went before the one has no row any more, what came after the other none yet; and if nothing that
 * was lost was there between the two, nothing that the rows point at was lost. If something was, it is tried again: the
 * moments are milliseconds apart. What is held need not be read before that.
 */
export class Turnstile {
  readonly #options: TurnstileOptions;
  /** Commits have passed without a clear way: the rows of what was lost may be in the log, and their ends not. */
  #owes = false;

  constructor(options: TurnstileOptions) {
    this.#options = options;
  }

  /** Until `deadlineMs`. Commits that are made meanwhile may join. */
  async clear(deadlineMs: number): Promise<Way> {
    const { queue, sentinel, trees } = this.#options;
    const taken = await this.#moment();
    let fetched: Fetched | undefined = taken === undefined ? undefined : { from: 0, to: taken };
    let merge = false;
    try {
      for (let isFirst = true; ; isFirst = false) {
        // Without a first moment a scan has found what is there. What came and went unseen before has its row, and the end of
        // it, in the commits that are fetched then.
        if (fetched ? await this.#mayLack(fetched) : !isFirst) {
          merge = true;
          fetched = await this.#fetch(deadlineMs);
        }
        await Promise.all(trees.map(async (tree) => tree.look(deadlineMs, { rescuing: queue.count > 0 })));
        const isLate = this.#options.clock.monotonic() >= deadlineMs;
        if (!isLate && trees.some(({ scans }) => scans.isAwaited)) continue;
        if (trees.some(({ isBehind }) => isBehind)) return this.#giveUp();
        if (fetched && !(await this.#mayLack(fetched))) return this.#clear(fetched, merge);
        if (isLate || (!fetched && !sentinel.isHopeful)) return this.#giveUp();
      }
    } finally {
      for (const tree of trees) tree.release();
    }
  }

  /** Whether the databases have queued what was committed until now. Those that wait for room wait for us. */
  async areAsked(): Promise<boolean> {
    const asked = this.#options.syncDatabases().then(
      () => true,
      () => false,
    );
    return Promise.race([asked, sleep(FETCH_PATIENCE_MS).then(() => false)]);
  }

  /** Rows of commits that were fetched so may be without files. Without commits it does not matter yet what was lost. */
  async #mayLack(fetched: Fetched): Promise<boolean> {
    const isAsked = this.#options.queue.taken.length > 0 || this.#owes;
    return isAsked && (await this.#hasLost(fetched));
  }

  #giveUp(): Way {
    this.#owes ||= this.#options.queue.taken.length > 0;
    return { isClear: false, merge: true };
  }

  #clear({ from }: Fetched, merge: boolean): Way {
    for (const tree of this.#options.trees) tree.settle(from);
    this.#owes = false;
    return { isClear: true, merge };
  }

  /** All commits up to a moment at which nothing was there that was lost. Undefined: there was none until `deadlineMs`. */
  async #fetch(deadlineMs: number): Promise<Fetched | undefined> {
    const { queue } = this.#options;
    for (let from = await this.#moment(); from !== undefined;) {
      queue.changeTaken(mergeCommits);
      const areComplete = await this.areAsked();
      queue.take();
      const to = await this.#moment();
      if (to === undefined) return undefined;
      if (areComplete && !(await this.#hasLost({ from, to }))) return { from, to };
      if (this.#options.clock.monotonic() >= deadlineMs) return undefined;
      from = to;
    }
    return undefined;
  }

  async #hasLost(fetched: Fetched): Promise<boolean> {
    const { trees } = this.#options;
    // Without another sentinel it is not known whether what is gone was what was there before.
    if (trees.some((tree) => tree.isOpen) && (await this.#moment()) === undefined) return true;
    return trees.some((tree) => tree.hasLost(fetched));
  }

  /** Everything that happened before is announced. Undefined: it is not. */
  async #moment(): Promise<number | undefined> {
    const passed = await this.#options.sentinel.pass();
    if (passed === undefined) this.#options.onUnannounced();
    return passed;
  }
}
