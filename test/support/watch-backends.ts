import path from "node:path";

import { inotify, type WatchBackend } from "../../src/capture/files/watch-backend.ts";

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
