import type { Logger } from "pino";

import type { Clock } from "../../runtime/clock.ts";
import type { DirtyPaths } from "./dirty-paths.ts";
import type { TreeWatch } from "./tree-watch.ts";

/** They are looked at this often, and take no more than one part in so many of the time. */
const POLL_MS = 2000;
const POLL_SHARE = 10;
const SYSCTL: Readonly<Record<string, string>> = {
  ENOSPC: "fs.inotify.max_user_watches",
  EMFILE: "fs.inotify.max_user_instances (and the limit of open files)",
};

export interface UnwatchedOptions {
  readonly tree: { readonly name: string; readonly root: string };
  readonly watch: TreeWatch;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Directories for which there are no more watches: every moment may be the one after a change. */
export class Unwatched {
  readonly #options: UnwatchedOptions;
  #dueMs = 0;
  #said = 0;

  constructor(options: UnwatchedOptions) {
    this.#options = options;
  }

  get isEmpty(): boolean {
    return this.#options.watch.unwatched.size === 0;
  }

  get dueMs(): number {
    return this.isEmpty ? Infinity : this.#dueMs;
  }

  /** For the look that begins. `scanMs`: what a look at everything takes. */
  mark(dirty: DirtyPaths, scanMs: number): void {
    const { watch, clock, logger, tree } = this.#options;
    if (this.isEmpty) return;
    for (const directory of watch.unwatched) dirty.markAll(directory);
    this.#dueMs = clock.monotonic() + Math.max(POLL_MS, scanMs / POLL_SHARE);
    if (this.#said === watch.unwatched.size) return;
    this.#said = watch.unwatched.size;
    logger.warn({ tree: tree.name }, this.problem);
  }

  /** For people. */
  get problem(): string | undefined {
    const { tree, watch } = this.#options;
    const { unwatched, refusal } = watch;
    if (unwatched.size === 0 || refusal === undefined) return undefined;
    const setting = SYSCTL[refusal] ?? "the limits of inotify";
    return `${unwatched.size} directories of ${tree.root} cannot be watched (${refusal}) and are looked at again and again; raise ${setting}`;
  }
}
