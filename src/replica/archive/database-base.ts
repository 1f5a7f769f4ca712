import { setImmediate as nextTurn } from "node:timers/promises";

import { lockBytePage } from "../../format/database-header.ts";
import type { TableBlock } from "../../repository/base.ts";
import type { BlobStore } from "../../repository/blob-store.ts";
import type { BlobType } from "../../repository/sealer.ts";
import { decodeTableBlock, encodeTableBlock } from "../../repository/table-block.ts";
import { giveBack } from "../../runtime/give-back.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import { pageHash } from "../../sqlite/page-index.ts";
import type { BaseMemory } from "./base-memory.ts";
import { BLOCK_BYTES, type BlockPlan, EXTENT_BYTES, planBlock } from "./block-plan.ts";
import type { ImagedDatabase } from "./standby-image.ts";

export interface DatabaseBaseOptions {
  readonly database: ImagedDatabase;
  /** Seed of the page hashes. */
  readonly seed: bigint;
  readonly memory: BaseMemory;
  readonly blobs: BlobStore;
  /** Stores a blob and gives its name. */
  readonly store: (type: BlobType, data: Uint8Array) => Promise<Uint8Array>;
  readonly signal: AbortSignal;
  /** So many pages more are looked at. */
  readonly onPages: (count: number) => void;
}

/** Writes what a base holds of one database: of each block only what is not in the repository already. */
export class DatabaseBase {
  readonly #options: DatabaseBaseOptions;
  readonly #pageSize: number;
  readonly #perBlock: number;

  constructor(options: DatabaseBaseOptions) {
    this.#options = options;
    this.#pageSize = options.database.pageSize;
    this.#perBlock = BLOCK_BYTES / this.#pageSize;
  }

  /** Names of its table blocks. @throws BASE_ABANDONED, INTEGRITY, what the store throws */
  async write(): Promise<Uint8Array[]> {
    const { database, memory, signal } = this.#options;
    const { name, offset, pageSize, sizePages, standing } = database;
    if (!standing) return memory.tables(name);
    const blocks = Math.ceil(sizePages / this.#perBlock);
    const tables: Uint8Array[] = [];
    for (let block = 0; block < blocks; block += 1) {
      signal.throwIfAborted();
      const first = block * this.#perBlock;
      tables.push(await this.#block(block, standing.hashes.subarray(first, first + this.#perBlock)));
    }
    memory.putDatabase(name, { offset, pageSize, blocks });
    return tables;
  }

  async #block(block: number, hashes: BigUint64Array): Promise<Uint8Array> {
    const { database, memory, blobs, store, onPages } = this.#options;
    const { name, pageSize } = database;
    const firstPage = block * this.#perBlock + 1;
    const remembered = memory.block(name, block, pageSize);
    const table = remembered && decodeTableBlock(remembered.content);
    const known =
      remembered && table && blobs.has(remembered.id) && holdsAll(blobs, table)
        ? { hashes: remembered.hashes, table }
        : undefined;
    const plan = planBlock<Uint8Array>({ pageSize, firstPage, hashes }, known);
    onPages(hashes.length);
    if (plan.unchanged && remembered) return remembered.id;
    const content = encodeTableBlock(await this.#store(plan, firstPage, hashes));
    const id = await store("table", content);
    memory.putBlock(name, block, { hashes, id, content });
    return id;
  }

  async #store(plan: BlockPlan<Uint8Array>, firstPage: number, hashes: BigUint64Array): Promise<TableBlock> {
    const { store } = this.#options;
    const perExtent = EXTENT_BYTES / this.#pageSize;
    const extents: (Uint8Array | undefined)[] = [];
    for (const [at, extent] of plan.extents.entries()) {
      if (!extent.write) {
        extents.push(extent.id);
        continue;
      }
      const slot = at * perExtent;
      const bytes = this.#read(firstPage + slot, Math.min(perExtent, hashes.length - slot));
      extents.push(isZero(bytes) ? undefined : await store("extent", bytes));
      giveBack(bytes.buffer);
      await nextTurn();
    }
    const patches = [...plan.kept];
    for (const pages of plan.patches) {
      const bytes = Buffer.concat(pages.map((page) => this.#read(page, 1)));
      patches.push({ id: await store("patch", bytes), pages });
    }
    return { extents, patches };
  }

  /** Proved to be what the log says. @throws INTEGRITY */
  #read(firstPage: number, count: number): Uint8Array {
    const { database, seed } = this.#options;
    const { standing, name } = database;
    if (!standing) throw new Error("a database that is not held is not read");
    const bytes = standing.pages.read(firstPage, count);
    const lockPage = lockBytePage(this.#pageSize);
    for (let at = 0; at < count; at += 1) {
      const page = firstPage + at;
      const image = bytes.subarray(at * this.#pageSize, (at + 1) * this.#pageSize);
      if (page === lockPage) image.fill(0);
      else if (pageHash(seed, page, image) !== standing.hashes[page - 1]) {
        database.distrust();
        throw damaged(name, page);
      }
    }
    return bytes;
  }
}

/** Whether every blob that the table names is in the repository, and may be named again. */
export function holdsAll(blobs: BlobStore, { extents, patches }: TableBlock): boolean {
  return extents.every((id) => !id || blobs.has(id)) && patches.every(({ id }) => blobs.has(id));
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

function damaged(name: string, page: number): TidemarkError {
  return new TidemarkError(
    "INTEGRITY",
    `the standby copy of ${name} has a page that is not what the log says: page ${page}`,
    {
      hint: "The scrub repairs it from the log; the base is made after that. Look at the disk.",
    },
  );
}
