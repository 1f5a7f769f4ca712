import fs from "node:fs";

import { decodeWalIndexHeader, encodeWalIndexHeader, type WalIndexHeader } from "../../src/format/wal-index.ts";

const HEADER_COPY_BYTES = 48;

/** Writes a changed header into the wal-index, as a writer does: its second copy first, and then, if it lives, its first. */
export function writeHeader(
  database: string,
  change: (header: WalIndexHeader) => WalIndexHeader,
  copies: "second" | "both",
): void {
  const fd = fs.openSync(`${database}-shm`, "r+");
  const bytes = new Uint8Array(2 * HEADER_COPY_BYTES);
  fs.readSync(fd, bytes, 0, bytes.length, 0);
  const header = decodeWalIndexHeader(bytes);
  if (!header) throw new Error("the wal-index has no valid header to change");
  const changed = encodeWalIndexHeader(change(header));
  fs.writeSync(fd, changed, 0, HEADER_COPY_BYTES, HEADER_COPY_BYTES);
  if (copies === "both") fs.writeSync(fd, changed, 0, HEADER_COPY_BYTES, 0);
  fs.closeSync(fd);
}
