import fs from "node:fs";

import { inotifyQueue } from "../inotify-queue.ts";

export interface WalWatchOptions {
  readonly onWrite: () => void;
  /** Told why there is no watch (inotify's limits, mostly). */
  readonly onFailure: (why: string) => void;
}

/** Wakes capture when the WAL is written. It is only a hint: while it does not work somebody must look more often. */
export class WalWatch implements Disposable {
  readonly #path: string;
  readonly #options: WalWatchOptions;
  #watcher: fs.FSWatcher | undefined;
  #works = false;
  #paused = true;

  constructor(databasePath: string, options: WalWatchOptions) {
    this.#path = `${databasePath}-wal`;
    this.#options = options;
    this.resume();
  }

  get works(): boolean {
    return this.#works;
  }

  /** While the WAL is looked at all the time anyway: the kernel announces every write, at the cost of who writes. */
  pause(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#works = false;
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    try {
      this.#watcher = fs.watch(this.#path, () => {
        inotifyQueue.count();
        this.#options.onWrite();
      });
      this.#watcher.on("error", () => (this.#works = false));
      this.#works = true;
    } catch (error) {
      this.#options.onFailure(String(error));
    }
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
  }
}
