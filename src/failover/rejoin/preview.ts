import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { CaptureState } from "../../capture/capture-state.ts";
import { FilesState } from "../../replica/files/files-state.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import { databasesAt } from "./databases-at.ts";
import { FormerDatabase } from "./former-database.ts";
import { differencesOf, FormerTree } from "./former-tree.ts";
import { findLastCommon, type LastCommon } from "./last-common.ts";
import { requireClosed } from "./move-database.ts";
import { type DatabaseToRejoin, divergenceOf } from "./rejoin-database.ts";
import { hasTrees, type RejoinOptions } from "./rejoin.ts";
import { formerTree, ownFiles } from "./rejoin-trees.ts";
import { type DivergedDatabase, type DivergedTree, type RejoinReport, standing } from "./report.ts";
import { bringTreeIndexTo } from "./tree-index-at.ts";

/** What a rejoin would find and do, as far as it has not been done. Nothing is saved or moved. @throws as `rejoin`, but APPLICATION_RUNNING */
export async function previewRejoin(options: RejoinOptions): Promise<RejoinReport> {
  const { config, former, log, clock, signal } = options;
  const beganMs = clock.monotonic();
  using capture = new CaptureState(former.state, config.set);
  const common = await findLastCommon(log, capture, signal);
  const targetOf = (name: string): string => path.join(config.standby ?? "", name);
  const all = await databasesAt({ ...options, capture, common, targetOf });
  const databases = all.filter(({ source }) => fs.existsSync(source));
  const sources = databases.map(({ source }) => source);
  const found = await compareDatabases(databases, options);
  const trees = hasTrees(options) ? await compareTrees({ ...options, common, sources }) : [];
  return {
    ...standing(common),
    diverged: { directory: null, databases: found.diverged, trees },
    repaired: { pages: found.pages, bytes: found.bytes },
    refusal: refusalOf(sources),
    dryRun: true,
    durationMs: Math.round(clock.monotonic() - beganMs),
  };
}

async function compareDatabases(
  databases: readonly DatabaseToRejoin[],
  { clock }: RejoinOptions,
): Promise<{ diverged: DivergedDatabase[]; pages: number; bytes: number }> {
  const sum = { diverged: [] as DivergedDatabase[], pages: 0, bytes: 0 };
  for (const { name, source, shipped } of databases) {
    using former = await FormerDatabase.open({ path: source, known: shipped.index, clock });
    if (!former || former.isAsKnown) continue;
    sum.diverged.push(divergenceOf(name, former, shipped));
    sum.pages += former.wanted.length;
    sum.bytes += former.wanted.length * former.known.pageSize;
  }
  return sum;
}

type TreesOptions = RejoinOptions & { readonly common: LastCommon; readonly sources: readonly string[] };

async function compareTrees(options: TreesOptions): Promise<DivergedTree[]> {
  const { common, signal } = options;
  const { logId, offset: at } = common;
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-rejoin-"));
  const files = path.join(directory, "trees.db");
  try {
    await bringTreeIndexTo({ ...options, files, logId, at });
    const state = FilesState.open(files, logId);
    try {
      const trees: DivergedTree[] = [];
      for (const name of state.index.names()) {
        using tree = FormerTree.open(formerTree(name, options));
        const own = ownFiles(options);
        const diverged = tree && (await countTree(tree, { index: state.index, own, signal }));
        if (diverged) trees.push(diverged);
      }
      return trees;
    } finally {
      state.close();
    }
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

async function countTree(
  tree: FormerTree,
  options: Parameters<typeof differencesOf>[1],
): Promise<DivergedTree | undefined> {
  let [files, bytes, removed] = [0, 0, 0];
  for await (const { place, was } of differencesOf(tree, options)) {
    const stat = was === "gone" ? undefined : tree.stat(place);
    if (stat && !stat.isDirectory()) files += 1;
    bytes += stat?.isFile() ? Number(stat.size) : 0;
    removed += was === "gone" ? 1 : 0;
  }
  return files + removed === 0 ? undefined : { name: tree.name, files, bytes, removed, directory: null };
}

function refusalOf(sources: readonly string[]): string | null {
  try {
    requireClosed(sources);
    return null;
  } catch (error) {
    if (error instanceof TidemarkError) return error.message;
    throw error;
  }
}
