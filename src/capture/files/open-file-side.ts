import type { Logger } from "pino";

import type { Config } from "../../config/config.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { BodyPacker } from "../../log/body-packer.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { CaptureFeed } from "../capture-feed.ts";
import type { ShipQueue } from "../ship-queue.ts";
import { FileIndex } from "./file-index.ts";
import { FileSide } from "./file-side.ts";
import { FilesFeed } from "./files-feed.ts";
import { LargeFiles } from "./large-files.ts";
import { Outbox } from "./outbox.ts";
import { OwnFiles } from "./own-files.ts";
import { FileTree } from "./tree-capture.ts";
import { inotify, type WatchBackend } from "./watch-backend.ts";

export interface OpenFileSideOptions {
  readonly config: Config;
  readonly log: ChangeLog;
  readonly feed: CaptureFeed;
  readonly queue: ShipQueue;
  /** Whatever is gone at the first scan is meant to be gone. */
  readonly acceptEmpty?: boolean;
  readonly backend?: WatchBackend;
  /** Paths of the databases of the set; more may join. */
  readonly databases: () => readonly string[];
  readonly syncDatabases: () => Promise<void>;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly stop: AbortSignal;
  readonly abandon: AbortSignal;
}

/** Brings what is known of the trees up to the log's head; nothing is watched or read yet. */
export async function openFileSide(options: OpenFileSideOptions): Promise<FileSide> {
  const { config, log, feed, abandon, acceptEmpty = false, backend = inotify } = options;
  const { logId, acknowledged } = feed.writer;
  const index = new FileIndex(config.state);
  try {
    await index.recover({ log, logId, head: acknowledged.offset, signal: abandon });
  } catch (error) {
    index[Symbol.dispose]();
    throw error;
  }
  crashPoint("tree: index recovered");
  const packer = new BodyPacker();
  const files = new FilesFeed(feed, packer);
  const outbox = new Outbox(files, index);
  const large = new LargeFiles(files.nameKey);
  return new FileSide({
    ...options,
    files,
    captures: config.trees.map(
      (tree) => new FileTree({ ...options, tree, index, outbox, own: ownFiles(options), large, acceptEmpty }),
    ),
    lookAtLog: () => void index.lookAtLog(log),
    close: async () => {
      index[Symbol.dispose]();
      await large[Symbol.asyncDispose]();
      await packer[Symbol.asyncDispose]();
    },
    backend,
    state: config.state,
    rescanMs: config.capture.rescanMs,
    orderMaxWaitMs: config.capture.orderMaxWaitMs,
  });
}

/** What lies in a tree and is none of its files. */
export function ownFiles({
  config,
  databases,
  clock,
}: Pick<OpenFileSideOptions, "config" | "databases" | "clock">): OwnFiles {
  const directories = [config.state];
  if (config.standby !== undefined) directories.push(config.standby);
  if (config.log?.kind === "embedded") directories.push(config.log.directory);
  return new OwnFiles({ databases, directories, now: () => clock.monotonic() });
}
