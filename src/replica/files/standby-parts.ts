import type { ChangeLog } from "../../log/change-log.ts";
import type { StandbyPaths } from "../standby-paths.ts";
import { ChunkSource } from "./chunk-source.ts";
import { FileShower } from "./file-shower.ts";
import { FileStager } from "./file-stager.ts";
import { FilesState } from "./files-state.ts";
import { TreeWriter } from "./tree-writer.ts";

/** What a standby has once the log has said anything of trees. */
export class StandbyParts implements Disposable {
  readonly state: FilesState;
  readonly chunks: ChunkSource;
  readonly writer: TreeWriter;
  readonly stager: FileStager;
  readonly shower: FileShower;

  constructor({
    paths,
    logId,
    log,
  }: {
    readonly paths: StandbyPaths;
    readonly logId: string;
    readonly log: ChangeLog;
  }) {
    const { root, stage, files } = paths;
    const state = FilesState.open(files, logId);
    const chunks = new ChunkSource(log, state.index);
    const writer = new TreeWriter(root, stage);
    const stager = new FileStager({ state, chunks, writer, stage });
    this.shower = new FileShower({ state, stager, writer });
    this.state = state;
    this.chunks = chunks;
    this.writer = writer;
    this.stager = stager;
  }

  [Symbol.dispose](): void {
    this.writer[Symbol.dispose]();
    this.state.close();
  }
}
