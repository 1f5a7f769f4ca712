import fs from "node:fs";
import path from "node:path";

import { sleep } from "../../runtime/clock.ts";
import { Waker } from "../../runtime/waker.ts";
import { inotifyQueue } from "../inotify-queue.ts";

const TICK_MS = 100;
/** Each resting database is looked at once in a second, or once in as many seconds as there are thousands of them. */
const ROUND_MS = 1000;
const MOST_LOOKS_A_TICK = 100;

interface Resting {
  readonly path: string;
  readonly look: () => void;
}

/**
 * Looks at resting databases in turn. A watch on their directories makes the look come at once; the rounds are what is
 * relied on.
 */
export class RestingRounds {
  readonly #resting = new Set<Resting>();
  readonly #directories = new Map<string, WatchedDirectory>();
  readonly #waker = new Waker();

  /** `look` is called now and then until the result is disposed of. */
  add(databasePath: string, look: () => void): Disposable {
    const one: Resting = { path: databasePath, look };
    this.#resting.add(one);
    const parent = path.dirname(databasePath);
    const directory = this.#directories.get(parent) ?? new WatchedDirectory(parent);
    this.#directories.set(parent, directory);
    directory.resting.set(path.basename(databasePath), one);
    this.#waker.wake();
    return { [Symbol.dispose]: () => this.#remove(one) };
  }

  /** Until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#waker.wake(), { once: true });
    while (!signal.aborted) {
      if (this.#resting.size === 0) await this.#waker.wait(LONG_MS);
      else await sleep(TICK_MS, signal);
      this.#lookAtSome();
    }
    for (const directory of this.#directories.values()) directory.close();
  }

  /** Those that were looked at go to the end of the line. */
  #lookAtSome(): void {
    const share = Math.ceil((this.#resting.size * TICK_MS) / ROUND_MS);
    for (const one of [...this.#resting.values()].slice(0, Math.min(share, MOST_LOOKS_A_TICK))) {
      this.#resting.delete(one);
      this.#resting.add(one);
      one.look();
    }
  }

  #remove(one: Resting): void {
    this.#resting.delete(one);
    const parent = path.dirname(one.path);
    const directory = this.#directories.get(parent);
    directory?.resting.delete(path.basename(one.path));
    if (directory?.resting.size !== 0) return;
    directory.close();
    this.#directories.delete(parent);
  }
}

/** The watch is a hint only: without it the rounds find the same, later. */
class WatchedDirectory {
  readonly resting = new Map<string, Resting>();
  readonly #watcher: fs.FSWatcher | undefined;

  constructor(directory: string) {
    try {
      this.#watcher = fs.watch(directory, (_, name) => {
        inotifyQueue.count();
        this.resting.get(databaseOf(name ?? ""))?.look();
      });
      this.#watcher.on("error", () => this.#watcher?.close());
    } catch {
      this.#watcher = undefined;
    }
  }

  close(): void {
    this.#watcher?.close();
  }
}

function databaseOf(fileName: string): string {
  return fileName.replace(/-wal$/, "");
}

/** As long as a timer can. */
const LONG_MS = 2 ** 31 - 1;
