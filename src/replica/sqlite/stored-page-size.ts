import fs from "node:fs";

import { DATABASE_HEADER_BYTES, type DatabaseHeader, decodeDatabaseHeader } from "../../format/database-header.ts";
import { readUpTo } from "../../sqlite/write-fully.ts";

/** Before SQLite has the file open in this process: closing the descriptor would drop its locks. */
export function storedPageSize(file: string): number | undefined {
  return storedHeader(file)?.pageSize;
}

/** The same of the whole header. */
export function storedHeader(file: string): DatabaseHeader | undefined {
  const fd = fs.openSync(file, "r");
  try {
    const bytes = new Uint8Array(DATABASE_HEADER_BYTES);
    return decodeDatabaseHeader(bytes.subarray(0, readUpTo(fd, bytes, 0)));
  } finally {
    fs.closeSync(fd);
  }
}
