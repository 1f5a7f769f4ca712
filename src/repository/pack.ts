import { randomUUID } from "node:crypto";

import { safe } from "../event/field-rules.ts";
import { RecordProblem } from "../event/record-error.ts";
import { HEAD_BYTES, kindCode, MAX_RAW_BYTES, SEAL_BYTES } from "./envelope.ts";
import { decodeMap, encodeMap, listOf, type MapFormat, mapOf } from "./fields.ts";
import type { BlobType, SealedAs } from "./sealer.ts";

/**
 * A pack: sealed blobs one behind the other, then its own listing, sealed, then the listing's length (u32). A listing has
 * an entry of 45 bytes for each blob, in the order of positions:
 *
 *      0  32 B  id                 37  u32  stored bytes: of its envelope
 *     32  u8    kind               41  u32  raw bytes
 *     33  u32   position
 */
export interface PackedBlob {
  readonly id: Uint8Array;
  readonly type: BlobType;
  readonly position: number;
  readonly storedBytes: number;
  readonly rawBytes: number;
}

export interface PackListing {
  /** `packs/<2 hex>/<uuid>`. */
  readonly name: string;
  /** Of the whole object. */
  readonly bytes: number;
  readonly blobs: readonly PackedBlob[];
}

export const BLOB_ID_BYTES = 32;
const ENTRY_BYTES = 45;
/** Behind the listing. */
export const LISTING_LENGTH_BYTES = 4;
const MAX_PACK_BYTES = 64 * 1024 * 1024;
/** Of one index object. */
const MAX_PACKS = 10_000;

const TYPES: ReadonlyMap<number, BlobType> = new Map(
  (["chunk", "extent", "patch", "table", "list"] as const).map((type) => [kindCode(type), type]),
);

export function newPackName(): string {
  const uuid = randomUUID();
  return `packs/${uuid.slice(0, 2)}/${uuid}`;
}

export function blobName(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.length).toString("hex");
}

export function blobAs({ id, type }: Pick<PackedBlob, "id" | "type">): SealedAs {
  return { kind: type, name: blobName(id) };
}

export function encodeEntries(blobs: readonly PackedBlob[]): Uint8Array {
  const entries = Buffer.alloc(blobs.length * ENTRY_BYTES);
  for (const [index, blob] of blobs.entries()) {
    const at = index * ENTRY_BYTES;
    entries.set(blob.id, at);
    entries[at + 32] = kindCode(blob.type);
    entries.writeUInt32BE(blob.position, at + 33);
    entries.writeUInt32BE(blob.storedBytes, at + 37);
    entries.writeUInt32BE(blob.rawBytes, at + 41);
  }
  return entries;
}

/** `packBytes`: of the pack that they are in. @throws RecordProblem */
export function decodeEntries(entries: Uint8Array, packBytes: number): PackedBlob[] {
  if (entries.length % ENTRY_BYTES !== 0) throw new RecordProblem(`${entries.length} bytes are no listing of blobs`);
  const view = new DataView(entries.buffer, entries.byteOffset, entries.length);
  return Array.from({ length: entries.length / ENTRY_BYTES }, (_, index) => {
    const at = index * ENTRY_BYTES;
    const type = TYPES.get(view.getUint8(at + 32));
    const [position, storedBytes, rawBytes] = [at + 33, at + 37, at + 41].map((field) => view.getUint32(field));
    if (!type || position === undefined || storedBytes === undefined || rawBytes === undefined)
      throw new RecordProblem(`entry ${index} of the listing is of no kind that there is`);
    const isInside = storedBytes >= HEAD_BYTES + SEAL_BYTES && position + storedBytes <= packBytes;
    if (!isInside || rawBytes > MAX_RAW_BYTES)
      throw new RecordProblem(`entry ${index} of the listing lies outside its pack`);
    return { id: entries.slice(at, at + BLOB_ID_BYTES), type, position, storedBytes, rawBytes };
  });
}

const PACK_NAME = /^packs\/[0-9a-f]{2}\/[0-9a-f-]{36}$/;

/** An index object: listings of packs. The same pack may be in several. */
const INDEX: MapFormat = {
  fields: {
    packs: listOf(mapOf({ fields: { name: packName, bytes: safe, blobs: binary } }), MAX_PACKS),
  },
};

export function encodeIndex(packs: readonly PackListing[]): Uint8Array {
  const wire = packs.map(({ name, bytes, blobs }) => ({ name, bytes, blobs: encodeEntries(blobs) }));
  return encodeMap(INDEX, { packs: wire });
}

/** @throws RecordProblem */
export function decodeIndex(raw: Uint8Array): PackListing[] {
  const { packs } = decodeMap(INDEX, raw) as { packs: { name: string; bytes: number; blobs: Uint8Array }[] };
  return packs.map(({ name, bytes, blobs }) => {
    if (bytes > MAX_PACK_BYTES) throw new RecordProblem(`${name} is said to have ${bytes} bytes`);
    return { name, bytes, blobs: decodeEntries(blobs, bytes) };
  });
}

function packName(value: unknown): unknown {
  if (typeof value === "string" && PACK_NAME.test(value)) return value;
  throw new RecordProblem("it is not the name of a pack");
}

function binary(value: unknown): unknown {
  if (value instanceof Uint8Array) return value;
  throw new RecordProblem("it is not binary");
}
