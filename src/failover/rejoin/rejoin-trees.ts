import path from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

import { OwnFiles } from "../../capture/files/own-files.ts";
import { StandbyFiles } from "../../replica/files/standby-files.ts";
import { type CheckStep, checkTrees } from "../../replica/files/tree-check.ts";
import { TreeSnapshot } from "../../replica/files/tree-snapshot.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import type { StandbyPaths } from "../../replica/standby-paths.ts";
import type { StandbyState } from "../../replica/standby-state.ts";
import type { TreePath } from "../../event/tree-path.ts";
import type { TreeIndex } from "../../tree/tree-index.ts";
import { FormerTree, type FormerTreeConfig } from "./former-tree.ts";
import type { LastCommon } from "./last-common.ts";
import { moveTree } from "./move-tree.ts";
import type { RejoinRecord } from "./rejoin-record.ts";
import type { RejoinOptions } from "./rejoin.ts";
import { saveTree } from "./save-tree.ts";
import { bringTreeIndexTo } from "./tree-index-at.ts";

export interface RejoinTreesOptions extends RejoinOptions {
  readonly common: LastCommon;
  readonly paths: StandbyPaths;
  readonly state: StandbyState;
  readonly record: RejoinRecord;
  readonly diverged: () => string;
  /** Paths of the databases where the application has them. */
  readonly sources: readonly string[];
}

/** Places that are repaired at a time. */
const REPAIR_AT_ONCE = 1000;

/** Brings the trees of a former primary to the last common offset, at the standby's place. Killed anywhere, it goes on. */
export async function rejoinTrees(options: RejoinTreesOptions): Promise<void> {
  const { common, paths } = options;
  const { logId, offset: at } = common;
  await bringTreeIndexTo({ ...options, files: paths.files, logId, at });
  const fresh = new Map<string, readonly TreePath[]>();
  {
    using snapshot = new TreeSnapshot(paths.files);
    for (const name of snapshot.index.names()) fresh.set(name, await takeOver(name, snapshot.index, options));
  }
  const files = new StandbyFiles({ ...options, logId, replaceTrees: true });
  try {
    files.adopt();
    // In a place of its own there is nothing but what was moved there. What is left out of the set stays.
    if (options.former.isPromoted) for (const [tree, places] of fresh) files.removeUnknown(tree, places);
    await repairAll(files, options);
  } finally {
    files.close();
  }
}

/** Saves what diverged, then moves what is right. Returns what the log knows nothing of. */
async function takeOver(name: string, index: TreeIndex, options: RejoinTreesOptions): Promise<readonly TreePath[]> {
  const { record, signal, former } = options;
  using tree = FormerTree.open(formerTree(name, options));
  if (!tree) return [];
  tree.requireUnwritten();
  if (record.now.movedTrees.includes(name)) {
    await moveTree(tree, index, { paths: options.paths, differing: undefined });
    return [];
  }
  const directory = (): string => path.join(options.diverged(), "files");
  const { found, fresh, differing } = await saveTree(tree, { index, own: ownFiles(options), directory, signal });
  crashPoint("rejoin: tree saved");
  if (found && !record.now.savedTrees.some((one) => one.name === name))
    record.note({ savedTrees: [...record.now.savedTrees, found] });
  if (former.isPromoted) return fresh;
  record.note({ movedTrees: [...record.now.movedTrees, name] });
  await moveTree(tree, index, { paths: options.paths, differing });
  return [];
}

/** Where the application has it. */
export function formerTree(
  name: string,
  { config, former }: Pick<RejoinOptions, "config" | "former">,
): FormerTreeConfig {
  const { path: place = "", exclude = [], include = [] } = config.trees.find((tree) => tree.name === name) ?? {};
  return { name, path: former.isPromoted ? path.join(config.standby ?? "", name) : place, exclude, include };
}

export function ownFiles({
  config,
  former,
  clock,
  sources,
}: Pick<RejoinTreesOptions, "config" | "former" | "clock" | "sources">): OwnFiles {
  const { standby = "", log } = config;
  const directories = [former.state, config.state];
  if (!former.isPromoted) directories.push(standby);
  if (log?.kind === "embedded") directories.push(log.directory);
  return new OwnFiles({ databases: () => sources, directories, now: () => clock.monotonic() });
}

async function repairAll(files: StandbyFiles, { signal, record }: RejoinTreesOptions): Promise<void> {
  const { checkable } = files;
  if (!checkable) return;
  const { index } = checkable.state;
  let wrong: NonNullable<CheckStep["wrong"]>[] = [];
  let bytes = record.now.treeBytes;
  const repair = async (): Promise<void> => {
    signal.throwIfAborted();
    if (wrong.length === 0) return;
    await files.repair(wrong);
    record.note({ treeBytes: bytes });
    wrong = [];
  };
  for (const step of checkTrees(index, checkable.reader)) {
    if (!step.wrong) continue;
    const entry = index.entry(step.wrong.tree, step.wrong.path);
    bytes += entry?.kind === "file" ? entry.size : 0;
    wrong.push(step.wrong);
    if (wrong.length >= REPAIR_AT_ONCE) await repair();
    await nextTurn();
  }
  await repair();
}
