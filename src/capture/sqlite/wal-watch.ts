import fs from "node:fs";

/** Wakes capture when the WAL is written. It is only a hint: while it does not work somebody must look more often. */
export class WalWatch implements Disposable {
  readonly #watcher: fs.FSWatcher | undefined;
  #works = false;

  /** `onFailure` is told why there is no watch (inotify's limits, mostly). */
  constructor(databasePath: string, { onWrite, onFailure }: { onWrite: () => void; onFailure: (why: string) => void }) {
    try {
      this.#watcher = fs.watch(`${databasePath}-wal`, onWrite);
      this.#watcher.on("error", () => (this.#works = false));
      this.#works = true;
    } catch (error) {
      onFailure(String(error));
    }
  }

  get works(): boolean {
    return this.#works;
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
  }
}
