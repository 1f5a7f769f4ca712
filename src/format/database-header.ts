import { isPageSize } from "./wal.ts";

/** The first 100 bytes of a database file, https://www.sqlite.org/fileformat2.html#the_database_header. */
export const DATABASE_HEADER_BYTES = 100;
const MAGIC = "SQLite format 3\0";

/** The page that holds the byte at 1 GiB is for locks: never written, never in the WAL, never part of a copy. */
const LOCK_BYTE = 0x4000_0000;

export interface DatabaseHeader {
  readonly pageSize: number;
  /** true when both version bytes say WAL (2). */
  readonly wal: boolean;
  /** Size as of the last write outside WAL mode or checkpoint of page 1; not to be relied on in WAL mode. */
  readonly sizePages: number;
  /** SQLITE_VERSION_NUMBER of the library that last wrote page 1, for instance 3,051,003. */
  readonly writerVersion: number;
}

/** Undefined when the bytes are not a database header. An empty file is a valid, empty database: test for it first. */
export function decodeDatabaseHeader(data: Uint8Array): DatabaseHeader | undefined {
  if (data.length < DATABASE_HEADER_BYTES) return undefined;
  if (Buffer.from(data.buffer, data.byteOffset, MAGIC.length).toString("latin1") !== MAGIC) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, DATABASE_HEADER_BYTES);
  const stored = view.getUint16(16);
  const pageSize = stored === 1 ? 65_536 : stored;
  if (!isPageSize(pageSize)) return undefined;
  return {
    pageSize,
    wal: view.getUint8(18) === 2 && view.getUint8(19) === 2,
    sizePages: view.getUint32(28),
    writerVersion: view.getUint32(96),
  };
}

/** 1-based number of the lock-byte page for a page size. */
export function lockBytePage(pageSize: number): number {
  return LOCK_BYTE / pageSize + 1;
}
