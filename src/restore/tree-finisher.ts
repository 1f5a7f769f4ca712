import { createHash } from "node:crypto";
import fs from "node:fs";
import { setImmediate as breathe } from "node:timers/promises";

import { hex } from "./database-builder.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { FileEntry, TreeEntry, TreeIndex } from "../tree/tree-index.ts";
import { requireGoingOn } from "./scan-log.ts";
import type { TreeItem, TreePlan } from "./tree-plan.ts";
import { shownName } from "./tree-planner.ts";
import type { TreePlaces } from "./tree-places.ts";

const SLICE_BYTES = 1024 * 1024;
const { O_RDWR, O_CREAT, O_NOFOLLOW } = fs.constants;

export interface FinishOptions {
  readonly plan: TreePlan;
  readonly index: TreeIndex;
  readonly places: TreePlaces;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
}

/**
 * When all contents are written: reads every file back and compares its SHA-256 with the log's, gives everything its
 * metadata, makes the other names of files, then symbolic links, and at last sets the directories' own metadata,
 * innermost first, because each name that is made in one changes its time.
 *
 * @throws CHECKSUM_MISMATCH, INTERRUPTED
 */
export async function finishTrees(options: FinishOptions): Promise<void> {
  const { plan, places } = options;
  const slice = Buffer.allocUnsafe(SLICE_BYTES);
  for (const item of plan.items("file")) {
    requireGoingOn(options.signal);
    if (item.twin === null) await finishFile(item, slice, options);
  }
}
