import fs from "node:fs";

import type { ByteString } from "../../event/tree-path.ts";
import { inotifyQueue } from "../inotify-queue.ts";

export interface WatchHandlers {
  /** Something happened to `name` in the directory; undefined: it is not known to what. */
  readonly onEvent: (kind: "rename" | "change", name: ByteString | undefined) => void;
  /** Nothing more will come. */
  readonly onFailure: (error: unknown) => void;
}

/** Announces changes of directories in the order in which they happened, across all that one backend watches. */
export interface WatchBackend {
  /** The watch stands when this returns. @throws ENOSPC and EMFILE when there is no room for more, ENOENT and the like */
  watch(directory: Buffer, handlers: WatchHandlers): Disposable;
}

/**
 * inotify. Node watches before `fs.watch` returns, and takes and gives names as bytes; all watches of an event loop share
 * one queue, which is what keeps the order.
 */
export const inotify: WatchBackend = {
  watch(directory, { onEvent, onFailure }) {
    const watcher = fs.watch(directory, { encoding: "latin1", persistent: false });
    watcher.on("change", (kind, name) => {
      inotifyQueue.count();
      onEvent(kind === "rename" ? "rename" : "change", nameOf(name));
    });
    watcher.on("error", onFailure);
    return { [Symbol.dispose]: () => watcher.close() };
  },
};

function nameOf(name: string | Buffer | null): ByteString | undefined {
  return name === null ? undefined : String(name);
}
