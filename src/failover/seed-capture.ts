import fs from "node:fs";
import path from "node:path";

import { CaptureState } from "../capture/capture-state.ts";
import { FileIndex } from "../capture/files/file-index.ts";
import { NO_PREVIOUS_HASH, recordHash } from "../event/codec.ts";
import { type Offset, offset as toOffset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { currentEpoch, readLogIdentity } from "../log/log-reader.ts";
import { TreeSnapshot } from "../replica/files/tree-snapshot.ts";
import { prepareStandby, type StandbyPaths } from "../replica/standby-paths.ts";
import { StandbyState } from "../replica/standby-state.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { promotedState } from "./standby-role.ts";

export interface SeedOptions {
  readonly set: string;
  readonly standby: string;
  readonly log: ChangeLog;
  readonly signal: AbortSignal;
}

/** No WAL proves anything of a file that others wrote: all of its pages are compared, and what differs is shipped. */
const UNPROVED = { position: { salt1: 0, salt2: 0, frame: 0, checksum1: 0, checksum2: 0 }, file: "none" } as const;

/**
 * What the standby knows of its copies becomes what their capture knows of the log, so that nothing need be copied again.
 * The replica has ended. What capture knows already, and newer, stays: it may be called again after a crash.
 */
export async function seedCapture(options: SeedOptions): Promise<{ databases: string[]; trees: string[] }> {
  const { standby, set, log, signal } = options;
  const { logId, checksumSeed } = await readLogIdentity(log, signal);
  const paths = prepareStandby(standby);
  const state = new StandbyState(paths);
  using capture = new CaptureState(promotedState(standby), set);
  try {
    const { position } = state;
    if (position?.logId !== logId) throw notFollowing(standby, log.location);
    const databases = state.indexes.names();
    // A log that was begun anew holds no copies: whoever comes later needs some.
    const { start } = await currentEpoch(log, await log.bounds());
    if (start?.reason === "new-log") return { databases, trees: treesOf(paths) };
    for (const name of databases) {
      // Its own commits may be newer than the common position: their index is exact where the last of them is.
      const at = toOffset(Math.max(position.offset, state.indexes.offsetOf(name) ?? 0));
      const stored = state.indexes.load(name, checksumSeed);
      if (!stored || (capture.offsetOf(name) ?? -1) >= at) continue;
      stored.index.markAllDirty();
      const known = { logId, offset: at, hash: await hashIfThere(log, at) };
      capture.save(name, path.join(standby, name), { shipped: { index: stored.index, ...UNPROVED }, known });
    }
    const at = toOffset(Math.max(position.offset, state.filesOffset ?? 0));
    return { databases, trees: seedTrees(paths, { directory: promotedState(standby), logId, at }) };
  } finally {
    state.close();
  }
}

function treesOf({ files }: StandbyPaths): string[] {
  if (!fs.existsSync(files)) return [];
  using snapshot = new TreeSnapshot(files);
  return snapshot.index.names();
}

/** A record that was trimmed is compared with nothing. */
async function hashIfThere(log: ChangeLog, at: Offset): Promise<Uint8Array> {
  const record = await log.get(at);
  return record ? recordHash(record) : NO_PREVIOUS_HASH;
}

/** Names of the trees. */
function seedTrees(
  { files }: StandbyPaths,
  { directory, logId, at }: { readonly directory: string; readonly logId: string; readonly at: Offset },
): string[] {
  if (!fs.existsSync(files)) return [];
  using snapshot = new TreeSnapshot(files);
  using index = new FileIndex(directory);
  index.seed(snapshot.index, { logId, at });
  return snapshot.index.names();
}

function notFollowing(standby: string, location: string): TidemarkError {
  return new TidemarkError("STANDBY_FOREIGN", `the standby ${standby} has applied nothing of ${location}`, {
    hint: "Start `tidemark replica` and wait until it follows the log.",
  });
}
