import { RecordProblem } from "../event/record-error.ts";
import { blobAs, blobName, decodeIndex, type PackedBlob, type PackListing } from "./pack.ts";
import { NewerObject } from "./object-error.ts";
import { INDEX_PREFIX, readListing } from "./refresh-index.ts";
import type { Survey } from "./survey.ts";
import { isDamage } from "./verify-report.ts";
import type { VerifyContext } from "./verify.ts";

/** By the id of a blob, in hexadecimal: a pack in which it is not as it was stored. */
export type BadBlobs = Map<string, string>;

/** Every pack that index/ names is there in its size; of those that are chosen every blob is proved. */
export async function verifyPacks(context: VerifyContext, survey: Survey): Promise<BadBlobs> {
  const bad: BadBlobs = new Map();
  const seen = new Set<string>();
  for (const name of survey.names(INDEX_PREFIX)) {
    for (const listing of await listingsOf(context, name)) {
      if (seen.has(listing.name)) continue;
      seen.add(listing.name);
      await verifyPack(context, { listing, survey, bad });
    }
  }
  await verifyUnnamed(context, { survey, seen });
  return bad;
}

async function listingsOf({ repository, findings, signal }: VerifyContext, name: string): Promise<PackListing[]> {
  try {
    return await repository.objects.get({ kind: "index", name }, signal, decodeIndex);
  } catch (error) {
    if (!isDamage(error)) throw error;
    findings.add(name, error.message);
    return [];
  }
}

interface PackCheck {
  readonly listing: PackListing;
  readonly survey: Survey;
  readonly bad: BadBlobs;
}

async function verifyPack(context: VerifyContext, { listing, survey, bad }: PackCheck): Promise<void> {
  const { findings } = context;
  const { name, bytes, blobs } = listing;
  const found = survey.bytesOf(name);
  const giveUp = (problem: string): void => {
    findings.add(name, problem);
    for (const { id } of blobs) bad.set(blobName(id), name);
  };
  // What expire removes is marked a day before; its index object goes before it, or stays where nothing can be removed.
  if (found === undefined && context.marked.has(name)) return;
  if (found === undefined) return giveUp("it is not there, and index/ names it");
  if (found !== bytes) return giveUp(`it has ${found} bytes, index/ says ${bytes}`);
  if (!context.chosen(name)) return;
  try {
    await readPack(context, listing, bad);
  } catch (error) {
    if (!isDamage(error)) throw error;
    giveUp(error.message);
  }
  context.checked(name, bytes);
}

/** In one request: a pack is no larger than memory bears. */
async function readPack(context: VerifyContext, { name, blobs }: PackListing, bad: BadBlobs): Promise<void> {
  const { repository, findings, signal } = context;
  const data = await repository.objects.store.get(name, signal);
  for (const blob of blobs) {
    const problem = await problemOf(context, blob, data);
    if (problem === undefined) continue;
    findings.add(name, problem);
    bad.set(blobName(blob.id), name);
  }
  const own = await readListing(repository.objects, { name, bytes: data.length }, signal);
  const isSame = own.blobs.length === blobs.length && own.blobs.every((blob, at) => isSameBlob(blob, blobs[at]));
  if (!isSame) findings.add(name, "its own listing differs from what index/ says of it");
}

async function problemOf(
  { repository }: VerifyContext,
  blob: PackedBlob,
  pack: Uint8Array,
): Promise<string | undefined> {
  try {
    const stored = pack.subarray(blob.position, blob.position + blob.storedBytes);
    const data = await repository.objects.open(blobAs(blob), stored);
    return data.length === blob.rawBytes
      ? undefined
      : `blob ${blobName(blob.id)} has ${data.length} bytes, not ${blob.rawBytes}`;
  } catch (error) {
    if (!(error instanceof RecordProblem || error instanceof NewerObject)) throw error;
    return `blob ${blobName(blob.id)}: ${error.message}`;
  }
}

function isSameBlob(one: PackedBlob, other: PackedBlob | undefined): boolean {
  return (
    other !== undefined &&
    Buffer.compare(one.id, other.id) === 0 &&
    one.position === other.position &&
    one.storedBytes === other.storedBytes
  );
}

/** A process that died between a pack and its index leaves one that nothing refers to. */
async function verifyUnnamed(
  { findings }: VerifyContext,
  { survey, seen }: { readonly survey: Survey; readonly seen: ReadonlySet<string> },
): Promise<void> {
  const unnamed = survey.names("packs/").filter((name) => !seen.has(name));
  if (unnamed.length === 0) return;
  findings.warnings.push(
    `${unnamed.length === 1 ? "a pack is" : `${unnamed.length} packs are`} in no index: left behind by a process that died, being written, or their index object is lost; expire removes what nothing needs and names the others again`,
  );
}
