import fs from "node:fs";

import { type Chunk, chunksOf } from "../../event/chunk-list.ts";
import type { Offset } from "../../event/positions.ts";
import type { ByteString } from "../../event/tree-path.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import { openRecord } from "../../log/open-record.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import { readUpTo } from "../../sqlite/write-fully.ts";
import type { LookBack } from "../look-back.ts";
import { isContent } from "../../tree/content-id.ts";
import type { TreeIndex } from "../../tree/tree-index.ts";

/** Contents that came lately are kept up to this many bytes: the records that need them mostly follow at once. */
const MEMORY_BYTES = 16 * 1024 * 1024;

/** An older version of a file on disk, from which chunks may be taken if they still are what they were. */
export class OldVersion {
  readonly #fd: number;
  readonly #positions = new Map<ByteString, number>();

  readonly #nameKeys: readonly Uint8Array[];

  constructor(fd: number, chunkList: Uint8Array, nameKeys: readonly Uint8Array[]) {
    this.#fd = fd;
    this.#nameKeys = nameKeys;
    let position = 0;
    for (const { id, size } of chunksOf(chunkList)) {
      this.#positions.set(id, position);
      position += size;
    }
  }

  read({ id, size }: Chunk): Uint8Array | undefined {
    const position = this.#positions.get(id);
    if (position === undefined) return undefined;
    const data = Buffer.allocUnsafe(size);
    return readUpTo(this.#fd, data, position) === size && isContent(id, data, this.#nameKeys) ? data : undefined;
  }

  close(): void {
    fs.closeSync(this.#fd);
  }
}

export interface ChunkSourceOptions {
  readonly log: ChangeLog;
  readonly index: TreeIndex;
  /** For what was trimmed from the log. */
  readonly lookBack: Pick<LookBack, "content">;
}

/**
 * Gives the content of chunks: what came lately from memory, the rest from an older version of the file, from the log, or
 * from a repository.
 */
export class ChunkSource {
  readonly #log: ChangeLog;
  readonly #index: TreeIndex;
  readonly #lookBack: Pick<LookBack, "content">;
  /** The newest last. */
  readonly #recent = new Map<ByteString, Uint8Array>();
  #recentBytes = 0;

  constructor({ log, index, lookBack }: ChunkSourceOptions) {
    this.#log = log;
    this.#index = index;
    this.#lookBack = lookBack;
  }

  /** With which contents are named, as far as they are known by now. */
  get nameKeys(): readonly Uint8Array[] {
    return this.#log.keys?.nameKeys ?? [];
  }

  /** Proves the content of a record and keeps it for a while. @throws LOG_CORRUPT */
  add(named: ByteString, data: Uint8Array, offset: Offset): void {
    if (!isContent(named, data, this.nameKeys))
      throw this.#corrupt(offset, "its content does not have the hash that it names");
    if (this.#recent.has(named)) return;
    // A copy: a view would keep the whole record alive, and those around it.
    this.#recent.set(named, Buffer.from(data));
    this.#recentBytes += data.length;
    for (const [id, oldest] of this.#recent) {
      if (this.#recentBytes <= MEMORY_BYTES) return;
      this.#recent.delete(id);
      this.#recentBytes -= oldest.length;
    }
  }

  /** @throws LOG_GAP (removed from the log), LOG_CORRUPT, RECORD_INVALID (never was there), what the log throws */
  async get(chunk: Chunk, old: OldVersion | undefined): Promise<Uint8Array> {
    const near = this.#recent.get(chunk.id) ?? old?.read(chunk);
    if (near) return this.#ofSize(near, chunk);
    const offset = this.#index.contentOffset(chunk.id);
    const record = offset === undefined ? undefined : await this.#log.get(offset);
    if (offset !== undefined && record) return this.#ofSize(await this.#contentOf(record, offset, chunk), chunk);
    const archived = await this.#lookBack.content(chunk.id);
    if (archived) return this.#ofSize(archived, chunk);
    if (offset === undefined) {
      throw new TidemarkError("RECORD_INVALID", `no record carries the chunk ${shown(chunk)}`, {
        hint: "The writer of the log is at fault; report it.",
      });
    }
    throw this.#trimmed(offset, chunk);
  }

  async #contentOf(record: Uint8Array, offset: Offset, chunk: Chunk): Promise<Uint8Array> {
    const { body } = await openRecord(this.#log, record);
    const data = body.kind === "file.chunk" || body.kind === "file.put" ? body.data : undefined;
    if (!data || !isContent(chunk.id, data, this.nameKeys))
      throw this.#corrupt(offset, `it does not carry the chunk ${shown(chunk)}`);
    return data;
  }

  #ofSize(data: Uint8Array, chunk: Chunk): Uint8Array {
    if (data.length === chunk.size) return data;
    throw new TidemarkError(
      "RECORD_INVALID",
      `the chunk ${shown(chunk)} has ${data.length} bytes, a file says ${chunk.size}`,
      {
        hint: "The writer of the log is at fault; report it.",
      },
    );
  }

  #corrupt(offset: Offset, evidence: string): TidemarkError {
    return new TidemarkError("LOG_CORRUPT", `${this.#log.location}: offset ${offset}: ${evidence}`, {
      hint: "Check the disk of the log. Start a new log (move this one aside, remove the capture agent's state) and reseed the standbys.",
    });
  }

  #trimmed(offset: Offset, chunk: Chunk): TidemarkError {
    return new TidemarkError(
      "LOG_GAP",
      `${this.#log.location}: offset ${offset}, which carried the chunk ${shown(chunk)}, was removed, and no repository that this standby can read has it`,
      {
        hint: "Give the standby the repository of the set (repository: in its tidemark.yml) and start it again.",
      },
    );
  }
}

function shown({ id }: Chunk): string {
  return Buffer.from(id, "latin1").toString("hex").slice(0, 16);
}
