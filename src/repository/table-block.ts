import { hash as blobId, MAX_PAGE_NUMBER, integer } from "../event/field-rules.ts";
import type { TableBlock } from "./base.ts";
import { decodeMap, encodeMap, listOf, type MapFormat, mapOf } from "./fields.ts";
import { objectError } from "./object-error.ts";

/** A table block describes so much of a database, in extents of so much. */
export const BLOCK_BYTES = 64 * 1024 * 1024;
export const EXTENT_BYTES = 256 * 1024;
/** Pages of one patch at most. */
export const PATCH_PAGES = 64;

const MAX_EXTENTS = BLOCK_BYTES / EXTENT_BYTES;
/** As many as a block can have pages. */
const MAX_PATCHES = BLOCK_BYTES / 512;

const idOrHole = (value: unknown): unknown => (value === null || value === undefined ? null : blobId(value));
const page = integer(0, MAX_PAGE_NUMBER);

const FORMAT: MapFormat = {
  fields: {
    extents: listOf(idOrHole, MAX_EXTENTS),
    patches: listOf(mapOf({ fields: { id: blobId, pages: listOf(page, PATCH_PAGES) } }), MAX_PATCHES),
  },
};

export function encodeTableBlock({ extents, patches }: TableBlock): Uint8Array {
  return encodeMap(FORMAT, { extents, patches });
}

/** `name`: of the blob, for messages. @throws OBJECT_CORRUPT */
export function decodeTableBlock(raw: Uint8Array, name = "of a base"): TableBlock {
  try {
    const { extents, patches } = decodeMap(FORMAT, raw) as unknown as Wire;
    return { extents: extents.map((id) => id ?? undefined), patches };
  } catch (error) {
    throw objectError(error, { location: "table block", name });
  }
}

type Wire = Pick<TableBlock, "patches"> & { readonly extents: readonly (Uint8Array | null)[] };
