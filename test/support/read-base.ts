import fs from "node:fs";

import type { ManifestDatabase } from "../../src/repository/base.ts";
import type { Repository } from "../../src/repository/repository.ts";
import { FsStore } from "../../src/repository/fs-store.ts";
import { openRepository } from "../../src/repository/open-repository.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { decodeTableBlock } from "../../src/repository/table-block.ts";

const BLOCK_BYTES = 64 * 1024 * 1024;
const EXTENT_BYTES = 256 * 1024;
const { signal } = new AbortController();

/** Writes the pages of a database of a base into a file, by the words of proto/repository.md alone. */
export async function writeBaseDatabase(
  { blobs }: Repository,
  { tables, pageSize, sizePages }: ManifestDatabase,
  file: string,
): Promise<void> {
  const image = Buffer.alloc(pageSize * sizePages);
  for (const [block, table] of tables.entries()) {
    const { extents, patches } = decodeTableBlock(await blobs.read(table, signal));
    for (const [extent, id] of extents.entries()) {
      const bytes = id ? await blobs.read(id, signal) : undefined;
      // Longer than what is left of it when the database shrank since.
      if (bytes) Buffer.from(bytes).copy(image, block * BLOCK_BYTES + extent * EXTENT_BYTES);
    }
    for (const { id, pages } of patches) {
      const bytes = await blobs.read(id, signal);
      for (const [slot, page] of pages.entries()) {
        if (page !== 0) image.set(bytes.subarray(slot * pageSize, (slot + 1) * pageSize), (page - 1) * pageSize);
      }
    }
  }
  fs.writeFileSync(file, image);
}

/** A repository in a directory, to read. */
export async function openDirectoryRepository(directory: string, set: string): Promise<Repository> {
  return openRepository({
    store: new FsStore(directory),
    set,
    mode: "read",
    cacheDirectory: `${directory}-cache`,
    createdBy: "test",
    clock: systemClock,
    signal,
  });
}
