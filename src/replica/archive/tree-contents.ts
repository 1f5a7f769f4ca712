import fs from "node:fs";

import { bytesOf } from "../../event/tree-path.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import type { BlobStore } from "../../repository/blob-store.ts";
import { chunksOfEntry, type FileEntry, type TreeIndex } from "../../tree/tree-index.ts";
import { ChunkSource, OldVersion } from "../files/chunk-source.ts";
import { standbyPath } from "../files/standby-path.ts";

export interface TreeContentsOptions {
  readonly log: ChangeLog;
  readonly index: TreeIndex;
  /** Root of the standby. */
  readonly standby: string;
  readonly blobs: BlobStore;
  /** Stores content under its name. */
  readonly store: (data: Uint8Array, id: Uint8Array) => Promise<unknown>;
}

/**
 * Sees to it that the repository has the contents of files. The archiver put them there as they came by; those that came
 * before this repository are taken from the standby, where the file still is what it was, or from the log.
 */
export class TreeContents {
  readonly #options: TreeContentsOptions;
  readonly #source: ChunkSource;

  constructor(options: TreeContentsOptions) {
    this.#options = options;
    // What is in a repository already is not asked for.
    this.#source = new ChunkSource({ ...options, lookBack: { content: () => Promise.resolve(undefined) } });
  }

  /** @throws LOG_GAP (it is nowhere any more), what the log and the store throw */
  async store(entry: FileEntry): Promise<void> {
    const { blobs, store } = this.#options;
    let file: OldVersion | undefined;
    try {
      for (const chunk of chunksOfEntry(entry)) {
        const id = bytesOf(chunk.id);
        if (blobs.has(id)) continue;
        file ??= this.#open(entry);
        await store(await this.#source.get(chunk, file), id);
      }
    } finally {
      file?.close();
    }
  }

  /** What is read is proved by its name, so nothing depends on what stands there. */
  #open({ tree, path, chunkList }: FileEntry): OldVersion | undefined {
    const { log, standby } = this.#options;
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
    const at = Buffer.concat([Buffer.from(`${standby}/`), bytesOf(standbyPath(tree, path))]);
    try {
      return new OldVersion(fs.openSync(at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), chunkList, log.keys?.nameKeys ?? []);
    } catch {
      return undefined;
    }
  }
}
