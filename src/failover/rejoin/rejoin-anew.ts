import fs from "node:fs";
import path from "node:path";

import type { CaptureState } from "../../capture/capture-state.ts";
import { TreeSnapshot } from "../../replica/files/tree-snapshot.ts";
import type { StandbyPaths } from "../../replica/standby-paths.ts";
import type { StandbyState } from "../../replica/standby-state.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { makeDirectory, syncDirectory } from "../../runtime/durable-directory.ts";
import { workPlace } from "./rejoin-database.ts";
import { moveWhole, requireClosed } from "./move-database.ts";
import type { RejoinRecord } from "./rejoin-record.ts";
import type { RejoinOptions } from "./rejoin.ts";

export interface RejoinAnewOptions extends RejoinOptions {
  readonly capture: CaptureState;
  readonly paths: StandbyPaths;
  readonly state: StandbyState;
  readonly record: RejoinRecord;
  readonly diverged: () => string;
}

/**
 * Where nothing tells what the databases were at the last common offset: keeps them whole, those of a promoted standby with
 * its trees, and leaves a standby that builds itself anew. Killed anywhere, it goes on.
 */
export function rejoinAnew(options: RejoinAnewOptions): void {
  const { former, capture, paths, state, record, config } = options;
  const places = [...capture.captured()].map(([name, place]) => ({
    name,
    source: former.isPromoted ? path.join(config.standby ?? "", name) : place,
  }));
  requireClosed(places.map(({ source }) => source));
  for (const { name, source } of places) {
    const at = [workPlace(record, name), source].find((place) => fs.existsSync(place));
    if (at !== undefined && record.now.placed[name] === undefined)
      moveWhole(at, path.join(options.diverged(), "databases", name));
  }
  if (former.isPromoted) keepTrees(options);
  crashPoint("rejoin: kept whole");
  state.beginReseed(paths);
}

function keepTrees({ paths, diverged }: RejoinAnewOptions): void {
  if (!fs.existsSync(paths.files)) return;
  using snapshot = new TreeSnapshot(paths.files);
  for (const name of snapshot.index.names()) {
    const [from, to] = [path.join(paths.root, name), path.join(diverged(), "files", name)];
    if (!fs.existsSync(from)) continue;
    makeDirectory(path.dirname(to), { mode: 0o700 });
    fs.renameSync(from, to);
    syncDirectory(path.dirname(to));
    syncDirectory(path.dirname(from));
  }
}
