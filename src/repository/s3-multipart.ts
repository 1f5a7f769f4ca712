import { createHash } from "node:crypto";

import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  type CreateMultipartUploadCommandInput,
  ListMultipartUploadsCommand,
  type S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";

const CLEAN_UP_MS = 10_000;

/** All or nothing: the object is there once the upload is completed. What fails is aborted, so that nothing is left to pay for. */
export async function putInParts(
  client: S3Client,
  target: CreateMultipartUploadCommandInput,
  { data, partBytes, signal }: { data: Uint8Array; partBytes: number; signal: AbortSignal },
): Promise<void> {
  const options = { abortSignal: signal };
  const { Bucket, Key } = target;
  const { UploadId } = await client.send(new CreateMultipartUploadCommand(target), options);
  try {
    const parts: CompletedPart[] = [];
    for (const [index, Body] of pieces(data, partBytes).entries()) {
      const part = { Bucket, Key, UploadId, PartNumber: index + 1 };
      const ContentMD5 = createHash("md5").update(Body).digest("base64");
      const { ETag } = await client.send(new UploadPartCommand({ ...part, Body, ContentMD5 }), options);
      parts.push({ PartNumber: part.PartNumber, ETag });
    }
    const complete = { Bucket, Key, UploadId, MultipartUpload: { Parts: parts } };
    await client.send(new CompleteMultipartUploadCommand(complete), options);
  } catch (error) {
    const abort = client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }), {
      abortSignal: AbortSignal.timeout(CLEAN_UP_MS),
    });
    // What happened counts. The next sweep takes what stays.
    await abort.catch(() => undefined);
    throw error;
  }
}

/** Of about the same size: no last one that is below what the service takes. */
function pieces(data: Uint8Array, partBytes: number): Uint8Array[] {
  const count = Math.ceil(data.length / partBytes);
  const size = Math.ceil(data.length / count);
  return Array.from({ length: count }, (_, index) => data.subarray(index * size, (index + 1) * size));
}

/** Those that somebody began `before` and never finished. Where that fails another process does it some day. */
export async function abortOldUploads(
  client: S3Client,
  place: { readonly Bucket: string; readonly Prefix: string },
  { before, signal }: { before: Date; signal: AbortSignal },
): Promise<void> {
  const options = { abortSignal: signal };
  try {
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand(place), options);
    for (const { Key, UploadId, Initiated } of Uploads) {
      if (!Initiated || Initiated >= before) continue;
      await client.send(new AbortMultipartUploadCommand({ Bucket: place.Bucket, Key, UploadId }), options);
    }
  } catch {
    signal.throwIfAborted();
  }
}
