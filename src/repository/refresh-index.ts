import { RecordProblem } from "../event/record-error.ts";
import { eachOf } from "../runtime/each-of.ts";
import { hasCode } from "../runtime/errors.ts";
import type { BlobIndex } from "./blob-index.ts";
import { MAX_RAW_BYTES } from "./envelope.ts";
import { decodeExpired } from "./notes.ts";
import { EXPIRED_PREFIX } from "./object-names.ts";
import type { ObjectInfo } from "./object-store.ts";
import { decodeEntries, decodeIndex, LISTING_LENGTH_BYTES, type PackListing } from "./pack.ts";
import type { SealedObjects } from "./sealed-objects.ts";

export const INDEX_PREFIX = "index/";
export const PACK_PREFIX = "packs/";
/** Of a pack that was found by itself: takes the place of an index object's name. */
const UNNAMED_PREFIX = "unnamed/";
/** Objects fetched side by side. */
const PARALLEL = 8;

/**
 * Brings the local index to what the repository has now. New marks come first, and what is gone is forgotten at once: a
 * pack stays marked until the index objects that named it are forgotten.
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
  index.drop([...gone, ...unmarked]);
  if (damaged.length === 0) return;
  await findUnnamed(index, { objects, signal });
  for (const name of damaged) index.addIndex(name, [], { healed: true });
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

/**
 * Every pack lists what is in it: those that no sound index object names are found by that. They may not be referred to.
 *
 * @throws what the store throws
 */
export async function findUnnamed(index: BlobIndex, { objects, signal }: Source): Promise<void> {
  const gone = index.sources(UNNAMED_PREFIX);
  const fresh: ObjectInfo[] = [];
  for await (const pack of objects.store.list(PACK_PREFIX, signal)) {
    gone.delete(UNNAMED_PREFIX + pack.name);
    if (!index.hasPack(pack.name)) fresh.push(pack);
  }
  await eachOf(fresh, PARALLEL, async (pack) => {
    try {
      index.addIndex(UNNAMED_PREFIX + pack.name, [await readListing(objects, pack, signal)], { healed: true });
    } catch (error) {
      if (!hasCode(error, "OBJECT_CORRUPT", "OBJECT_MISSING")) throw error;
    }
  });
  index.drop([...gone]);
}

/** From the pack itself. @throws OBJECT_MISSING, OBJECT_CORRUPT */
export async function readListing(
  objects: SealedObjects,
  { name, bytes }: ObjectInfo,
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
