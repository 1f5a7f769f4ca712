import { RecordProblem } from "../../event/record-error.ts";
import { hasCode } from "../../runtime/errors.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import type { BlobUse, PackUse } from "../blob-use.ts";
import { blobAs } from "../pack.ts";
import { NewerObject } from "../object-error.ts";
import { openSealed } from "../sealer.ts";
import type { Repository } from "../repository.ts";

export interface CopyOptions {
  readonly use: BlobUse;
  readonly signal: AbortSignal;
}

/**
 * Writes what is needed of packs into new ones, each blob as it is sealed. Returns the packs that are not needed any more: one
 * that is damaged is left alone.
 */
export async function copyPacks(
  repository: Repository,
  packs: readonly PackUse[],
  { use, signal }: CopyOptions,
): Promise<PackUse[]> {
  const copied: PackUse[] = [];
  await using writer = repository.blobs.writer(signal);
  for (const pack of packs) if (await copyOne(pack.name)) copied.push(pack);
  await writer.finish(signal);
  crashPoint("expire: copied");
  return copied;

  async function copyOne(name: string): Promise<boolean> {
    const { store, sealer } = repository.objects;
    try {
      const data = await store.get(name, signal);
      const blobs = use.keptIn(name).map((blob) => {
        return { blob, sealed: data.subarray(blob.position, blob.position + blob.storedBytes) };
      });
      for (const { blob, sealed } of blobs) await openSealed(sealer, blobAs(blob), sealed);
      for (const { blob, sealed } of blobs) await writer.copy(blob, sealed);
      return true;
    } catch (error) {
      const isDamaged = error instanceof RecordProblem || error instanceof NewerObject;
      if (isDamaged || hasCode(error, "OBJECT_MISSING", "OBJECT_CORRUPT")) return false;
      throw error;
    }
  }
}
