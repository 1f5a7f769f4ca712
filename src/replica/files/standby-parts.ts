import type { Logger } from "pino";

import type { ChangeLog } from "../../log/change-log.ts";
import type { StandbyPaths } from "../standby-paths.ts";
import type { LookBack } from "../look-back.ts";
import { ChangedDirectories } from "./changed-directories.ts";
import { ChunkSource } from "./chunk-source.ts";
import { FileShower } from "./file-shower.ts";
import { FileStager } from "./file-stager.ts";
import { FilesState } from "./files-state.ts";
import { Refusals } from "./refusals.ts";
import { SafeWalk } from "./safe-walk.ts";
import { TreeReader } from "./tree-reader.ts";
import { TreeWriter } from "./tree-writer.ts";

export interface StandbyPartsOptions {
  readonly paths: StandbyPaths;
  readonly logId: string;
  readonly log: ChangeLog;
  readonly lookBack: LookBack;
  readonly logger: Logger;
}

/** What a standby has once the log has said anything of trees. */
export class StandbyParts implements Disposable {
  readonly state: FilesState;
  readonly chunks: ChunkSource;
  readonly walk: SafeWalk;
  readonly reader: TreeReader;
  readonly writer: TreeWriter;
  readonly changed: ChangedDirectories;
  readonly stager: FileStager;
  readonly shower: FileShower;
  readonly refusals: Refusals;

  constructor({ paths, logId, log, lookBack, logger }: StandbyPartsOptions) {
    const { root, stage, files } = paths;
    const refusals = new Refusals(logger);
    const state = FilesState.open(files, logId);
    const chunks = new ChunkSource({ log, lookBack, index: state.index });
    const walk = new SafeWalk(root);
    const reader = new TreeReader(walk);
    const changed = new ChangedDirectories(walk, root);
    const writer = new TreeWriter({ walk, reader, changed, refusals, stage });
    const stager = new FileStager({ state, chunks, reader, refusals, stage });
    this.shower = new FileShower({ state, stager, writer, walk });
    this.state = state;
    this.walk = walk;
    this.reader = reader;
    this.changed = changed;
    this.chunks = chunks;
    this.writer = writer;
    this.stager = stager;
    this.refusals = refusals;
  }

  [Symbol.dispose](): void {
    this.walk[Symbol.dispose]();
    this.state.close();
  }
}
