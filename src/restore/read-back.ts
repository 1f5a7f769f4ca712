import { createHash } from "node:crypto";
import { open } from "node:fs/promises";

import { lockBytePage } from "../format/database-header.ts";
import { pageHash } from "../sqlite/page-index.ts";
import { checksumMismatch } from "./database-builder.ts";
import type { PlannedDatabase } from "./plan.ts";
import { requireGoingOn } from "./history.ts";

/** A multiple of every page size. */
const SLICE_BYTES = 4 * 1024 * 1024;
const MASK_64 = 0xffff_ffff_ffff_ffffn;

export interface ReadBackOptions {
  readonly seed: bigint;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
}

/**
 * Reads the finished file from its first to its last byte and compares the rolling checksum with the log's: proves what
 * is on the disk, not what was sent there. Call it when nobody has the file open.
 *
 * @returns SHA-256 of the file in hex
 * @throws CHECKSUM_MISMATCH, INTERRUPTED
 */
export async function readBack(file: string, plan: PlannedDatabase, options: ReadBackOptions): Promise<string> {
  const { pageSize, sizePages } = plan;
  const digest = createHash("sha256");
  const lockPage = lockBytePage(pageSize);
  const slice = new Uint8Array(SLICE_BYTES);
  let sum = 0n;
  let bytes = 0;
  await using handle = await open(file, "r");
  for (;;) {
    requireGoingOn(options.signal);
    const length = await fill(handle, slice);
    if (length === 0) break;
    digest.update(slice.subarray(0, length));
    for (let at = 0; at < length; at += pageSize) {
      const pageNumber = (bytes + at) / pageSize + 1;
      if (pageNumber !== lockPage) sum += pageHash(options.seed, pageNumber, slice.subarray(at, at + pageSize));
    }
    bytes += length;
    options.onBytes(length);
  }
  const found = sum & MASK_64;
  if (found !== plan.checksum || bytes !== sizePages * pageSize) {
    throw checksumMismatch(plan.name, plan.offset, {
      when: "of the file read back after",
      found,
      expected: plan.checksum,
    });
  }
  return digest.digest("hex");
}

/** Fewer bytes than fit only at the end of the file. */
async function fill(handle: Awaited<ReturnType<typeof open>>, slice: Uint8Array): Promise<number> {
  let length = 0;
  while (length < slice.length) {
    const { bytesRead } = await handle.read(slice, length, slice.length - length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return length;
}
