import { DeleteObjectCommand, HeadObjectCommand, ListObjectVersionsCommand, type S3Client } from "@aws-sdk/client-s3";

import { ObjectLocked } from "./object-store.ts";
import { s3StatusOf } from "./s3-errors.ts";

interface Target {
  readonly Bucket: string;
  readonly Key: string;
}

interface Removal {
  readonly location: string;
  readonly name: string;
  /** When it may not be removed, hide it, and that is enough. */
  readonly hide: boolean;
  readonly signal: AbortSignal;
}

/**
 * Removes an object for good. In a bucket with versions a plain removal only hides the object, which goes on costing and,
 * under a lock, cannot go: each version is removed by its id, and one that is locked is said to be. Where versions may be
 * hidden but not removed (a guard against stolen credentials), it is hidden; the bucket's own rules remove it.
 */
export async function removeVersions(client: S3Client, target: Target, removal: Removal): Promise<void> {
  const options = { abortSignal: removal.signal };
  const versions = await versionsOf(client, target, removal.signal);
  if (!versions) return void (await client.send(new DeleteObjectCommand(target), options));
  for (const VersionId of versions) {
    try {
      await client.send(new DeleteObjectCommand({ ...target, VersionId }), options);
    } catch (error) {
      if (s3StatusOf(error) !== 403) throw error;
      const until = await lockOf(client, { ...target, VersionId }, removal.signal);
      if (until !== undefined && !removal.hide) throw lockedError(removal, until);
      return void (await client.send(new DeleteObjectCommand(target), options));
    }
  }
}

/** Newest first; undefined where there are none, or none that we may see. */
async function versionsOf(client: S3Client, target: Target, signal: AbortSignal): Promise<string[] | undefined> {
  try {
    const command = new ListObjectVersionsCommand({ Bucket: target.Bucket, Prefix: target.Key });
    const { Versions = [], DeleteMarkers = [] } = await client.send(command, { abortSignal: signal });
    const own = [...Versions, ...DeleteMarkers].filter(({ Key }) => Key === target.Key);
    const ids = own.map(({ VersionId }) => VersionId ?? "null");
    return ids.some((id) => id !== "null" && id !== "") ? ids : undefined;
  } catch (error) {
    const status = s3StatusOf(error);
    if (status === 403 || status === 405 || status === 501) return undefined;
    throw error;
  }
}

/** Until when, for people; undefined when it is not locked, or that may not be seen. */
async function lockOf(
  client: S3Client,
  version: Target & { readonly VersionId: string },
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const found = await client.send(new HeadObjectCommand(version), { abortSignal: signal });
    if (found.ObjectLockLegalHoldStatus === "ON") return "somebody lifts its legal hold";
    return found.ObjectLockRetainUntilDate?.toISOString();
  } catch (error) {
    const status = s3StatusOf(error);
    if (status === 403 || status === 404 || status === 405) return undefined;
    throw error;
  }
}

function lockedError({ location, name }: Removal, until: string): ObjectLocked {
  return new ObjectLocked(`${location}: ${name} is locked by the store until ${until}`, until);
}
