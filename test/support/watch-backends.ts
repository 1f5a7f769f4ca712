import path from "node:path";

import { inotify, type WatchBackend, type WatchHandlers } from "../../src/capture/files/watch-backend.ts";

const isSentinel = (directory: Buffer): boolean => path.basename(directory.toString()) === "sentinel";

/** As on a file system that announces nothing, a network's for one; the agent's own state is on another. */
export const deaf: WatchBackend = {
  watch: (directory, handlers) =>
    inotify.watch(directory, isSentinel(directory) ? handlers : { ...handlers, onEvent: () => undefined }),
};

/** Announces nothing at all. */
export const mute: WatchBackend = {
  watch: (directory, handlers) => inotify.watch(directory, { ...handlers, onEvent: () => undefined }),
};

/** As with a limit of so many watches beside the sentinel's. */
export function limited(most: number): WatchBackend {
  let watches = 0;
  return {
    watch(directory, handlers) {
      if (!isSentinel(directory)) {
        if (watches === most)
          throw Object.assign(new Error("ENOSPC: System limit for number of file watchers reached"), {
            code: "ENOSPC",
          });
        watches += 1;
      }
      return inotify.watch(directory, handlers);
    },
  };
}

/** Announces nothing while it is silent. */
export class Interrupted implements WatchBackend {
  isSilent = false;
  readonly #failing = new Set<WatchHandlers>();
  /** What sentinels would have heard. */
  #kept: (() => void)[] = [];

  watch(directory: Buffer, handlers: WatchHandlers): Disposable {
    const onEvent: WatchHandlers["onEvent"] = (...event) => {
      if (!this.isSilent) handlers.onEvent(...event);
      else if (isSentinel(directory)) this.#kept.push(() => handlers.onEvent(...event));
    };
    const watch = inotify.watch(directory, { ...handlers, onEvent });
    if (!isSentinel(directory)) this.#failing.add(handlers);
    return {
      [Symbol.dispose]: () => {
        this.#failing.delete(handlers);
        watch[Symbol.dispose]();
      },
    };
  }

  /** How many announcements sentinels wait for. */
  get waiting(): number {
    return this.#kept.length;
  }

  /** It was silent and tells so, before a sentinel is heard: as when it is known that the kernel's queue has run over. */
  fail(): void {
    this.isSilent = false;
    for (const { onFailure } of [...this.#failing].slice(0, 1)) onFailure(new Error("nothing was announced"));
    for (const tell of this.#kept.splice(0)) tell();
  }
}
