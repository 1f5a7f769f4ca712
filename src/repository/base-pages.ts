import type { PageImage } from "../event/kinds.ts";
import { lockBytePage } from "../format/database-header.ts";
import type { ManifestDatabase } from "./base.ts";
import type { BlobStore } from "./blob-store.ts";
import { BLOCK_BYTES, decodeTableBlock, EXTENT_BYTES } from "./table-block.ts";

/** What a blob of a table block holds: the page number of each slot, 0 where it is none of the wanted. */
interface Piece {
  readonly id: Uint8Array | undefined;
  readonly pages: readonly number[];
}

/**
 * Images of pages of a database as a base has it, a later image of a page superseding an earlier one. They are valid until
 * the next is asked for. @throws OBJECT_MISSING, OBJECT_CORRUPT, what the store throws
 */
export async function* readBasePages(
  blobs: BlobStore,
  database: ManifestDatabase,
  { wanted, signal }: { readonly wanted: (pageNumber: number) => boolean; readonly signal: AbortSignal },
): AsyncGenerator<PageImage, void, void> {
  const { tables, pageSize, sizePages } = database;
  const lockPage = lockBytePage(pageSize);
  const exists = (page: number): boolean => page > 0 && page <= sizePages && page !== lockPage && wanted(page);
  const perBlock = BLOCK_BYTES / pageSize;
  for (const [block, table] of tables.entries()) {
    const numbers = Array.from({ length: perBlock }, (_, slot) => block * perBlock + slot + 1);
    if (!numbers.some(exists)) continue;
    const pieces = piecesOf(await blobs.read(table, signal), {
      numbers,
      exists,
      perExtent: EXTENT_BYTES / pageSize,
    });
    for (const { pages } of pieces.filter(({ id }) => !id)) {
      for (const pageNumber of pages) if (pageNumber > 0) yield { pageNumber, data: new Uint8Array(pageSize) };
    }
    const stored = pieces.flatMap(({ id, pages }) => (id ? [{ id, pages }] : []));
    let next = 0;
    for await (const data of blobs.readMany(
      stored.map(({ id }) => id),
      signal,
    )) {
      for (const [slot, pageNumber] of (stored[next]?.pages ?? []).entries()) {
        const image = data.subarray(slot * pageSize, (slot + 1) * pageSize);
        // An extent may be shorter than it is now: what is missing is in patches.
        if (pageNumber > 0 && image.length === pageSize) yield { pageNumber, data: image };
      }
      next += 1;
    }
  }
}

/** Those that hold any of the wanted pages: extents, then patches, in their order. */
function piecesOf(
  table: Uint8Array,
  { numbers, exists, perExtent }: { numbers: readonly number[]; exists: (page: number) => boolean; perExtent: number },
): Piece[] {
  const { extents, patches } = decodeTableBlock(table);
  const all: Piece[] = extents.map((id, index) => ({
    id,
    pages: numbers.slice(index * perExtent, (index + 1) * perExtent),
  }));
  all.push(...patches);
  return all
    .map(({ id, pages }) => ({ id, pages: pages.map((page) => (exists(page) ? page : 0)) }))
    .filter(({ pages }) => pages.some((page) => page > 0));
}
