import { setImmediate as nextTurn } from "node:timers/promises";

import { checkTrees, type CheckStep } from "../../replica/files/tree-check.ts";
import { StandbyFiles } from "../../replica/files/standby-files.ts";
import type { StandbyPaths } from "../../replica/standby-paths.ts";
import type { StandbyState } from "../../replica/standby-state.ts";
import { bringTreeIndexTo } from "./tree-index-at.ts";
import type { LastCommon } from "./last-common.ts";
import type { RejoinOptions } from "./rejoin.ts";
import type { RejoinRecord } from "./rejoin-record.ts";

export interface RejoinTreesOptions extends RejoinOptions {
  readonly common: LastCommon;
  readonly paths: StandbyPaths;
  readonly state: StandbyState;
  readonly record: RejoinRecord;
  readonly diverged: () => string;
}

/** Places that are repaired at a time. */
const REPAIR_AT_ONCE = 1000;

/** Brings the trees of a former primary to the last common offset, at the standby's place. Killed anywhere, it goes on. */
export async function rejoinTrees(options: RejoinTreesOptions): Promise<void> {
  const { common, signal } = options;
  const { logId, offset: at } = common;
  await bringTreeIndexTo({ ...options, logId, at });
  const files = new StandbyFiles({ ...options, logId, replaceTrees: true });
  try {
    files.adopt();
    await repairAll(files, signal);
  } finally {
    files.close();
  }
}

async function repairAll(files: StandbyFiles, signal: AbortSignal): Promise<void> {
  const { checkable } = files;
  if (!checkable) return;
  let wrong: NonNullable<CheckStep["wrong"]>[] = [];
  for (const step of checkTrees(checkable.state.index, checkable.reader)) {
    if (step.wrong) wrong.push(step.wrong);
    if (wrong.length < REPAIR_AT_ONCE) continue;
    signal.throwIfAborted();
    await files.repair(wrong);
    wrong = [];
    await nextTurn();
  }
  if (wrong.length > 0) await files.repair(wrong);
}
