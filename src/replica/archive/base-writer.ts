import { hostname } from "node:os";

import type { Offset } from "../../event/positions.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import type { BaseManifest, ManifestDatabase, ManifestTree } from "../../repository/base.ts";
import type { BlobWriter } from "../../repository/blob-store.ts";
import type { Repository } from "../../repository/repository.ts";
import type { BlobType } from "../../repository/sealer.ts";
import type { Clock } from "../../runtime/clock.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import type { BaseMemory } from "./base-memory.ts";
import { DatabaseBase } from "./database-base.ts";
import type { StandbyImage } from "./standby-image.ts";
import { writeTree } from "./tree-base.ts";
import { TreeContents } from "./tree-contents.ts";

export interface BaseWriterOptions {
  readonly repository: Repository;
  readonly image: StandbyImage;
  readonly contents: BlobWriter;
  readonly memory: BaseMemory;
  readonly log: ChangeLog;
  /** Root of the standby. */
  readonly standby: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Stores the contents of one base, and says what its manifest is. */
export class BaseWriter {
  readonly progress: { done: number; total: number };
  readonly #options: BaseWriterOptions;

  constructor(options: BaseWriterOptions) {
    this.#options = options;
    const held = options.image.databases.filter(({ standing }) => standing);
    this.progress = { done: 0, total: held.reduce((sum, { sizePages }) => sum + sizePages, 0) };
  }

  /** Everything that the manifest names is durable when it resolves. @throws BASE_ABANDONED, INTEGRITY, what the store throws */
  async write(): Promise<BaseManifest> {
    const { image, contents, clock, signal } = this.#options;
    const { offset, timeMs, epoch, logId, hash } = image.position;
    if (!hash) throw unproved(offset);
    const databases = await this.#databases();
    const trees = await this.#trees();
    const { bytes: bytesNew } = await contents.finish(signal);
    const sizes = [...databases.map(bytesOfDatabase), ...trees.map(({ bytes }) => bytes)];
    return {
      offset,
      timeMs,
      epoch,
      logId,
      hash,
      checksumSeed: image.seed,
      databases,
      trees,
      bytesNew,
      bytesAll: sizes.reduce((sum, one) => sum + one, 0),
      createdMs: clock.now(),
      createdBy: `tidemark on ${hostname()}`,
    };
  }

  async #databases(): Promise<ManifestDatabase[]> {
    const { image, memory, repository, signal } = this.#options;
    const store = this.#store.bind(this);
    const onPages = (count: number): void => void (this.progress.done += count);
    const written = [];
    for (const database of image.databases) {
      const { name, pageSize, sizePages, checksum, offset } = database;
      const options = { database, seed: image.seed, memory, blobs: repository.blobs, store, signal, onPages };
      const tables = await new DatabaseBase(options).write();
      written.push({ name, pageSize, sizePages, checksum, offset, tables });
    }
    return written;
  }

  async #trees(): Promise<ManifestTree[]> {
    const { image, log, standby, repository, signal } = this.#options;
    const index = image.trees?.index;
    if (!index) return [];
    const store = this.#store.bind(this);
    const storeChunk = (data: Uint8Array, id: Uint8Array): Promise<Uint8Array> => store("chunk", data, id);
    const contents = new TreeContents({ log, index, standby, blobs: repository.blobs, store: storeChunk });
    const written = [];
    for (const name of index.names()) written.push(await writeTree(name, { index, contents, store, signal }));
    return written;
  }

  async #store(type: BlobType, data: Uint8Array, id?: Uint8Array): Promise<Uint8Array> {
    const { contents, memory } = this.#options;
    const name = await contents.add(type, data, id);
    if (type !== "list" || !memory.usesList(name)) memory.stored(name);
    return name;
  }
}

function bytesOfDatabase({ pageSize, sizePages }: ManifestDatabase): number {
  return pageSize * sizePages;
}

function unproved(offset: Offset): TidemarkError {
  return new TidemarkError("LOG_UNREACHABLE", `the log could not be asked for the hash of offset ${offset}`, {
    hint: "The base is made when the log answers again.",
  });
}
