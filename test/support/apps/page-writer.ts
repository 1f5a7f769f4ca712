// A program under test: writes commits into the WAL of a database of which it makes nothing but what SQLite's file format demands.
// node page-writer.ts DATABASE PAGE_SIZE SIZE_PAGES [PAGE_NUMBER…]    one commit that makes the database so large, with a
// frame of page 1 (which says the size) and of the pages named, filled with their number: other new pages are in no frame.
import { readPage } from "../../../src/replica/page-check.ts";
import { WalWriter } from "../../../src/replica/sqlite/wal-writer.ts";
import { systemClock } from "../../../src/runtime/clock.ts";

/** Byte position of the size in pages on page 1. */
const SIZE_AT = 28;

const [path = "", ...numbers] = process.argv.slice(2);
const [pageSize = 0, sizePages = 0, ...written] = numbers.map(Number);
const writer = new WalWriter({ path, pageSize, clock: systemClock });
const first = Uint8Array.from(readPage(writer, 1));
new DataView(first.buffer).setUint32(SIZE_AT, sizePages);
const imageOf = (pageNumber: number): Uint8Array =>
  pageNumber === 1 ? first : new Uint8Array(pageSize).fill(pageNumber);
await writer.append({ pageNumbers: () => Uint32Array.of(1, ...written), get: imageOf }, sizePages);
writer.close();
