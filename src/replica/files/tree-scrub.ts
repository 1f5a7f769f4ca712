import type { Logger } from "pino";

import type { ScrubConfig } from "../../config/config.ts";
import { shownPath } from "../../event/tree-path.ts";
import type { Clock } from "../../runtime/clock.ts";
import { hasCode, TidemarkError } from "../../runtime/errors.ts";
import type { TreeScrubStatus } from "../replica-agent.ts";
import type { ReplicaProgress } from "../replica-progress.ts";
import { standbyPath } from "./standby-path.ts";
import type { StandbyFiles } from "./standby-files.ts";
import { type CheckStep, checkTrees } from "./tree-check.ts";

const SLICE_BYTES = 1024 * 1024;
/** Strays that are named in the log, of one pass. */
const NAMED = 20;

export interface TreeScrubOptions {
  readonly config: ScrubConfig;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly progress: ReplicaProgress;
  readonly signal: AbortSignal;
}

export const NO_TREE_SCRUB: TreeScrubStatus = { at: undefined, places: 0, differing: 0, strays: 0, running: false };

interface Pass {
  readonly steps: Generator<CheckStep>;
  places: number;
  differing: number;
  strays: number;
}

/**
 * Reads everything in the trees of a standby and compares it with what the log says: after each start, then every
 * `scrub`, always at its rate. What is wrong is put right from the log.
 */
export class TreeScrub {
  readonly #options: TreeScrubOptions;
  #pass: Pass | undefined;
  #last: (Omit<Pass, "steps"> & { readonly atMs: number }) | undefined;
  /** Of the next slice or pass; monotonic. */
  #nextMs = 0;

  constructor(options: TreeScrubOptions) {
    this.#options = options;
  }

  /** Until there may be something to do for `step`. */
  get waitMs(): number {
    return Math.max(0, this.#nextMs - this.#options.clock.monotonic());
  }

  status(): TreeScrubStatus {
    const { atMs, places, differing, strays } = this.#last ?? { places: 0, differing: 0, strays: 0 };
    const at = atMs === undefined ? undefined : new Date(atMs).toISOString();
    return { at, places, differing, strays, running: this.#pass !== undefined };
  }

  /** One slice, when it is time, with nothing pending. @throws STANDBY_DIVERGED (it cannot be repaired), PATH_UNSAFE, what the log throws */
  async step(files: StandbyFiles): Promise<void> {
    const { clock, config } = this.#options;
    if (this.waitMs > 0) return;
    const { checkable } = files;
    if (!checkable) {
      this.#nextMs = Infinity;
      return;
    }
    this.#pass ??= { steps: checkTrees(checkable.state.index, checkable.reader), places: 0, differing: 0, strays: 0 };
    const { bytes, wrong, done } = this.#slice(this.#pass);
    await checkable.shower.restoreRights();
    this.#nextMs = clock.monotonic() + (bytes * 1000) / config.bytesPerSecond;
    if (wrong.length > 0) await this.#heal(files, wrong);
    if (done) this.#end(this.#pass);
  }

  /** There is something to look at. */
  wake(): void {
    if (this.#nextMs === Infinity && !this.#last) this.#nextMs = 0;
  }

  /** Something was not there that should have been: everything is looked at again, now. */
  doubt(): void {
    this.close();
    this.#pass = undefined;
    this.#nextMs = 0;
  }

  close(): void {
    this.#pass?.steps.return(undefined);
  }

  #slice(pass: Pass): { bytes: number; wrong: NonNullable<CheckStep["wrong"]>[]; done: boolean } {
    const wrong: NonNullable<CheckStep["wrong"]>[] = [];
    let bytes = 0;
    while (bytes < SLICE_BYTES) {
      const { value, done } = pass.steps.next();
      if (done) return { bytes, wrong, done: true };
      bytes += value.bytes;
      if (value.place) pass.places += 1;
      if (value.wrong) wrong.push(value.wrong);
      this.#noteStrays(pass, value.strays ?? []);
    }
    return { bytes, wrong, done: false };
  }

  #noteStrays(pass: Pass, strays: readonly string[]): void {
    for (const stray of strays) {
      if (pass.strays < NAMED)
        this.#options.logger.warn({ path: stray }, "the log knows nothing of this file on the standby");
      pass.strays += 1;
    }
  }

  #end({ places, differing, strays }: Pass): void {
    const { clock, config } = this.#options;
    this.#last = { atMs: clock.now(), places, differing, strays };
    this.#pass = undefined;
    this.#nextMs = config.everyMs === undefined ? Infinity : clock.monotonic() + config.everyMs;
  }

  async #heal(files: StandbyFiles, wrong: readonly NonNullable<CheckStep["wrong"]>[]): Promise<void> {
    const { logger, progress, signal } = this.#options;
    progress.diverged = true;
    try {
      await files.repair(wrong);
    } catch (error) {
      if (signal.aborted || !(error instanceof TidemarkError) || error.retryable || hasCode(error, "PATH_UNSAFE"))
        throw error;
      throw beyondRepair(wrong, error);
    }
    for (const { tree, path, evidence } of wrong) {
      const at = standbyPath(tree, path);
      // What the file system does not take differs for ever.
      if (files.checkable?.refusals.has(at)) continue;
      logger.warn({ path: shownPath(at) }, `${evidence}; it was put right from the log`);
      progress.repaired(tree);
      if (this.#pass) this.#pass.differing += 1;
    }
    progress.diverged = false;
  }
}

function beyondRepair(wrong: readonly NonNullable<CheckStep["wrong"]>[], cause: TidemarkError): TidemarkError {
  const [first] = wrong;
  const at = first ? `${shownPath(standbyPath(first.tree, first.path))}: ${first.evidence}` : "";
  return new TidemarkError("STANDBY_DIVERGED", `${at}; the log cannot give it back: ${cause.message}`, {
    hint: "Check the disk and who may write there, then build the standby anew with `tidemark replica --reseed`.",
    cause,
  });
}
