import fs from "node:fs";

import type { ListedPlace } from "../capture/files/list-tree.ts";
import type { Config, TreeConfig } from "../config/config.ts";
import { formatSize } from "../config/units.ts";
import { shownPath } from "../event/tree-path.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { Cli } from "./cli.ts";

/** Lists what would be captured, and what of the trees would be left out and why. Nothing is written or opened. */
export async function dryRun(cli: Cli, config: Config, json: boolean): Promise<void> {
  const { listTree } = await import("../capture/files/list-tree.ts");
  const { Selection } = await import("../capture/files/selection.ts");
  const { ownFiles } = await import("../capture/files/open-file-side.ts");
  const own = ownFiles({ config, databases: () => config.databases.map(({ path }) => path), clock: cli.clock });
  for (const { name, path } of config.databases) {
    await cli.print(json ? JSON.stringify({ database: name, path }) : `database ${name} (${path})`);
  }
  for (const tree of config.trees) {
    if (!fs.existsSync(tree.path)) throw missing(tree);
    const found = { files: 0, bytes: 0, leftOut: 0 };
    if (!json) await cli.print(`files ${tree.name} (${tree.path})`);
    const options = { root: tree.path, selection: new Selection(tree), own, signal: cli.signal };
    for (const place of listTree(options)) {
      if (place.leftOut !== undefined) found.leftOut += 1;
      else if (place.kind !== "dir") found.files += 1;
      if (place.leftOut === undefined) found.bytes += place.bytes;
      await cli.print(json ? placeJson(tree.name, place) : placeText(place));
    }
    const { files, bytes, leftOut } = found;
    if (json) await cli.print(JSON.stringify({ tree: tree.name, files, bytes, leftOut }));
    else await cli.print(`  ${files} files, ${formatSize(bytes)}; left out: ${leftOut}`);
  }
}

function missing({ name, path }: TreeConfig): TidemarkError {
  return new TidemarkError("TREE_MISSING", `tree ${name}: ${path} is not there`, {
    hint: "Give the path of a directory or file that exists.",
  });
}

function placeText({ path, kind, bytes, leftOut }: ListedPlace): string {
  const shown = `${shownPath(path) || "."}${kind === "dir" && path !== "" ? "/" : ""}`;
  if (leftOut !== undefined) return `  - ${shown}: ${leftOut}`;
  return kind === "file" ? `  + ${shown} ${formatSize(bytes)}` : `  + ${shown}`;
}

function placeJson(tree: string, { path, kind, bytes, leftOut }: ListedPlace): string {
  const shown = { tree, path: shownPath(path), kind, bytes, captured: leftOut === undefined };
  return JSON.stringify(leftOut === undefined ? shown : { ...shown, reason: leftOut });
}
