import { RecordProblem } from "../event/record-error.ts";
import { eachOf } from "../runtime/each-of.ts";
import { hasCode } from "../runtime/errors.ts";
import type { BlobIndex } from "./blob-index.ts";
import { MAX_RAW_BYTES } from "./envelope.ts";
import { decodeExpired } from "./notes.ts";
import { EXPIRED_PREFIX } from "./object-names.ts";
import { decodeEntries, decodeIndex, LISTING_LENGTH_BYTES, type PackListing } from "./pack.ts";
import type { SealedObjects } from "./sealed-objects.ts";

export const INDEX_PREFIX = "index/";
export const PACK_PREFIX = "packs/";
/** Objects fetched side by side. */
const PARALLEL = 8;

/**
 * Brings the local index to what the repository has now. New marks come first, and those that are gone go last: a pack
 * stays marked until the index objects that named it are forgotten.
 *
 * @throws what the store throws, REPOSITORY_VERSION
 */
export async function refreshIndex(index: BlobIndex, objects: SealedObjects, signal: AbortSignal): Promise<void> {
  const unmarked = await follow(index, { prefix: EXPIRED_PREFIX, objects, signal }, async (name) => {
    try {
      const { names } = await objects.get({ kind: "expired", name }, signal, decodeExpired);
      index.addMarks(name, names);
    } catch (error) {
      if (!hasCode(error, "OBJECT_CORRUPT")) throw error;
      // It may have named anything: everything is read, and nothing is referred to while it is there.
      index.addMarks(name, ["*"]);
    }
  });
  const damaged: string[] = [];
  const gone = await follow(index, { prefix: INDEX_PREFIX, objects, signal }, async (name) => {
    try {
      index.addIndex(name, await objects.get({ kind: "index", name }, signal, decodeIndex));
    } catch (error) {
      if (!hasCode(error, "OBJECT_CORRUPT")) throw error;
      damaged.push(name);
    }
  });
  index.drop(gone);
  index.drop(unmarked);
  if (damaged.length > 0) await heal(damaged, index, { objects, signal });
}

interface Source {
  readonly objects: SealedObjects;
  readonly signal: AbortSignal;
}

/** What is new under a prefix is read. Returns what is gone, and still known. */
async function follow(
  index: BlobIndex,
  { prefix, objects, signal }: Source & { readonly prefix: string },
  read: (name: string) => Promise<void>,
): Promise<string[]> {
  const gone = index.sources(prefix);
  const fresh: string[] = [];
  for await (const { name } of objects.store.list(prefix, signal)) if (!gone.delete(name)) fresh.push(name);
  await eachOf(fresh, PARALLEL, async (name) => {
    try {
      await read(name);
    } catch (error) {
      // Removed since it was listed: what it said is in another by now.
      if (!hasCode(error, "OBJECT_MISSING")) throw error;
    }
  });
  return [...gone];
}

/** Every pack lists what is in it: those that no sound index object names are found by that. They may not be referred to. */
async function heal(damaged: readonly string[], index: BlobIndex, { objects, signal }: Source): Promise<void> {
  const packs: PackListing[] = [];
  for await (const { name, bytes } of objects.store.list(PACK_PREFIX, signal)) {
    if (index.hasPack(name)) continue;
    try {
      packs.push(await readListing(objects, { name, bytes }, signal));
    } catch (error) {
      if (!hasCode(error, "OBJECT_CORRUPT", "OBJECT_MISSING")) throw error;
    }
  }
  for (const name of damaged) index.addIndex(name, packs, { healed: true });
}

/** From the pack itself. @throws OBJECT_MISSING, OBJECT_CORRUPT */
export async function readListing(
  objects: SealedObjects,
  { name, bytes }: { readonly name: string; readonly bytes: number },
  signal: AbortSignal,
): Promise<PackListing> {
  const end = bytes - LISTING_LENGTH_BYTES;
  const tail = await objects.within(name, () => {
    if (end < 0) throw new RecordProblem(`${bytes} bytes are too short for a pack`);
    return objects.range(name, { offset: end, bytes: LISTING_LENGTH_BYTES }, signal);
  });
  const listingBytes = new DataView(tail.buffer, tail.byteOffset).getUint32(0);
  return objects.within(name, async () => {
    if (listingBytes > end || listingBytes > MAX_RAW_BYTES)
      throw new RecordProblem(`its listing is said to have ${listingBytes} bytes of ${bytes}`);
    const stored = await objects.range(name, { offset: end - listingBytes, bytes: listingBytes }, signal);
    const raw = await objects.open({ kind: "pack", name }, stored);
    return { name, bytes, blobs: decodeEntries(raw, end - listingBytes) };
  });
}
