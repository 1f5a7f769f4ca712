import {
  BLOCK_BYTES,
  encodeWalIndexHeader,
  entriesOf,
  HASH_SLOTS,
  HASH_TABLE_BYTE_OFFSET,
  hashSlot,
  locateEntry,
  type WalIndexHeader,
} from "../../format/wal-index.ts";
import { readUpTo, writeFully } from "../../sqlite/write-fully.ts";
import { crashPoint } from "../../runtime/crash-point.ts";

const HEADER_COPY_BYTES = 48;

/** One 32 KiB block of the wal-index in memory; host byte order. */
interface Block {
  readonly bytes: Uint8Array;
  /** Page numbers of this block's frames. */
  readonly pages: Uint32Array;
  /** 1-based index into `pages`; 0 = free. */
  readonly slots: Uint16Array;
}

/**
 * Enters frames `mxFrame + 1` … into the hash tables as SQLite's walIndexAppend does, under the write lock. Readers do
 * not look at entries above the mxFrame of their header, so nothing of this is visible before `publishHeader`.
 */
export function appendEntries(shmFd: number, mxFrame: number, pageNumbers: Uint32Array): void {
  for (let done = 0; done < pageNumbers.length;) {
    const { block, index } = locateEntry(mxFrame + 1 + done);
    const count = Math.min(entriesOf(block).count - index, pageNumbers.length - done);
    const loaded = loadBlock(shmFd, block, index);
    addEntries(loaded, index, pageNumbers.subarray(done, done + count));
    storeBlock(shmFd, loaded, { block, index, count });
    done += count;
  }
  crashPoint("append: hash table");
}

/** Makes a commit visible: header copy 2, then copy 1, as SQLite does, so that a reader in between looks again. */
export function publishHeader(shmFd: number, header: WalIndexHeader): void {
  const bytes = encodeWalIndexHeader(header);
  writeFully(shmFd, bytes, HEADER_COPY_BYTES);
  crashPoint("append: header copy 2");
  writeFully(shmFd, bytes, 0);
  crashPoint("append: header copy 1");
}

/**
 * A block as it must be before entry `index` is added: empty when that is its first, otherwise without the residue of
 * writers killed before they published. Left in place, residue fills the table until a probe never ends.
 */
function loadBlock(shmFd: number, block: number, index: number): Block {
  const { byteOffsetInBlock, count } = entriesOf(block);
  const bytes = new Uint8Array(BLOCK_BYTES);
  if (index > 0) readUpTo(shmFd, bytes, block * BLOCK_BYTES);
  const pages = new Uint32Array(bytes.buffer, byteOffsetInBlock, count);
  const slots = new Uint16Array(bytes.buffer, HASH_TABLE_BYTE_OFFSET, HASH_SLOTS);
  pages.fill(0, index);
  for (let slot = 0; slot < HASH_SLOTS; slot += 1) {
    if ((slots[slot] as number) > index) slots[slot] = 0;
  }
  return { bytes, pages, slots };
}

function addEntries(block: Block, firstIndex: number, pageNumbers: Uint32Array): void {
  for (let i = 0; i < pageNumbers.length; i += 1) {
    const pageNumber = pageNumbers[i] as number;
    let slot = hashSlot(pageNumber);
    // Ends: at most 4,096 of the 8,192 slots are taken, residue was cleared.
    while (block.slots[slot] !== 0) slot = (slot + 1) % HASH_SLOTS;
    block.pages[firstIndex + i] = pageNumber;
    block.slots[slot] = firstIndex + i + 1;
  }
}

/**
 * Page numbers, then the whole hash table in one aligned write: equal bytes are written over equal ones, and no
 * 16-bit slot is ever torn. A block that is new is written whole, so that the file holds all of it when it is mapped.
 */
function storeBlock(shmFd: number, loaded: Block, where: { block: number; index: number; count: number }): void {
  const start = where.block * BLOCK_BYTES;
  const { byteOffsetInBlock } = entriesOf(where.block);
  const from = byteOffsetInBlock + where.index * 4;
  writeFully(shmFd, loaded.bytes.subarray(from, HASH_TABLE_BYTE_OFFSET), start + from);
  crashPoint("append: page numbers");
  writeFully(shmFd, loaded.bytes.subarray(HASH_TABLE_BYTE_OFFSET), start + HASH_TABLE_BYTE_OFFSET);
}
