import xxhash from "xxhash-wasm";
import { type Epoch, epoch, type Offset, offset } from "./positions.ts";
import { invalidRecord, newerRecord } from "./record-error.ts";

/**
 * The fixed header of a record, 80 bytes, big-endian. Specified in proto/record.md; bytes 0 to 4 keep their meaning in
 * every version, so that any reader can say "upgrade".
 *
 *      0  u32  magic "TDMK"            16  u64  offset
 *      4  u8   format version          24  u64  time, ms since 1970
 *      5  u8   kind                    32  32 B SHA-256 of the previous record
 *      6  u16  flags                   64  u32  raw length: the body before compression
 *      8  u32  epoch                   68  u32  stored length: the body as it follows
 *     12  u32  map length              72  u64  checksum: xxh64(stored body, seed = xxh64(bytes 0 to 71, seed 0))
 */
export const RECORD_FORMAT_VERSION = 1;
export const RECORD_HEADER_BYTES = 80;
/** A whole encoded record; NATS allows 1 MiB with headers by default. */
export const MAX_RECORD_BYTES = 512 * 1024;
/** The body before compression. Zeros compress 10,000-fold, so the encoded size alone bounds nothing. */
export const MAX_RAW_BYTES = 16 * 1024 * 1024;
/** SHA-256 of nothing before offset 1. */
export const NO_PREVIOUS_HASH: Uint8Array = new Uint8Array(32);

export const FLAG = { zstd: 1, encrypted: 2, skippable: 4, consistent: 16 } as const;

/** Of the header: what an encrypted body cannot be moved away from. All but stored length and checksum. */
export const AUTHENTICATED_HEADER_BYTES = 68;
/** A stored body is at least so much longer than what is encrypted in it, see record-cipher.ts. */
export const ENCRYPTION_BYTES = 36;

const MAGIC = 0x54444d4b;
const KNOWN_FLAGS = FLAG.zstd | FLAG.encrypted | FLAG.skippable | FLAG.consistent;
const CHECKSUM_AT = 72;
/** Largest time that a JavaScript Date can hold. */
export const MAX_TIME_MS = 8_640_000_000_000_000;

const { h64Raw } = await xxhash();

export interface RecordHeader {
  /** Kind code, see body-fields.ts; may be one that this version does not know. */
  readonly kind: number;
  readonly flags: number;
  readonly epoch: Epoch;
  readonly offset: Offset;
  readonly timeMs: number;
  /** SHA-256 of the previous encoded record; zeros for offset 1. */
  readonly previousHash: Uint8Array;
  /** Bytes of the msgpack map at the start of the raw body; raw page bytes follow it. */
  readonly mapBytes: number;
  readonly rawBytes: number;
  readonly storedBytes: number;
}

/** Writes the header in front of the stored body, which is in `record` already. */
export function encodeRecordHeader(record: Uint8Array, header: RecordHeader): void {
  writeHeaderFields(record, header);
  writeRecordChecksum(record);
}

/** All but the checksum. */
export function writeHeaderFields(record: Uint8Array, header: RecordHeader): void {
  const view = new DataView(record.buffer, record.byteOffset, RECORD_HEADER_BYTES);
  view.setUint32(0, MAGIC);
  view.setUint8(4, RECORD_FORMAT_VERSION);
  view.setUint8(5, header.kind);
  view.setUint16(6, header.flags);
  view.setUint32(8, header.epoch);
  view.setUint32(12, header.mapBytes);
  view.setBigUint64(16, BigInt(header.offset));
  view.setBigUint64(24, BigInt(header.timeMs));
  record.set(header.previousHash, 32);
  view.setUint32(64, header.rawBytes);
  view.setUint32(68, header.storedBytes);
}

/** The last step: covers everything else that is in `record`. */
export function writeRecordChecksum(record: Uint8Array): void {
  const view = new DataView(record.buffer, record.byteOffset, RECORD_HEADER_BYTES);
  view.setBigUint64(CHECKSUM_AT, recordChecksum(record));
}

/**
 * Checks magic, version, flags, ranges and lengths; reads nothing of the body and does not verify the checksum.
 * `previousHash` is a view into `data`.
 *
 * @throws RECORD_INVALID, RECORD_VERSION
 */
export function decodeRecordHeader(data: Uint8Array): RecordHeader {
  checkVersion(data);
  if (data.length > MAX_RECORD_BYTES) {
    throw invalidRecord("record", `${data.length} bytes long, at most ${MAX_RECORD_BYTES} are possible`);
  }
  const view = new DataView(data.buffer, data.byteOffset, RECORD_HEADER_BYTES);
  const at = safeInteger(view, 16);
  const timeMs = safeInteger(view, 24);
  const header: RecordHeader = {
    kind: view.getUint8(5),
    flags: view.getUint16(6),
    epoch: epoch(view.getUint32(8)),
    offset: offset(at),
    timeMs,
    previousHash: data.subarray(32, 64),
    mapBytes: view.getUint32(12),
    rawBytes: view.getUint32(64),
    storedBytes: view.getUint32(68),
  };
  if (at < 1) throw invalidRecord("record", `offset at byte 16 is not from 1 to ${Number.MAX_SAFE_INTEGER}`);
  checkRanges(header);
  checkLengths(header, data.length);
  return header;
}

/** Whether header and stored body are what the writer wrote. `data` passed decodeRecordHeader. */
export function hasValidChecksum(data: Uint8Array): boolean {
  const view = new DataView(data.buffer, data.byteOffset, RECORD_HEADER_BYTES);
  return view.getBigUint64(CHECKSUM_AT) === recordChecksum(data);
}

/** Two calls, the first seeding the second: neither copies the record nor blanks the checksum field. */
function recordChecksum(record: Uint8Array): bigint {
  return h64Raw(record.subarray(RECORD_HEADER_BYTES), h64Raw(record.subarray(0, CHECKSUM_AT), 0n));
}

function checkVersion(data: Uint8Array): void {
  if (data.length < 5) throw invalidRecord("record", `${data.length} bytes are too short for a record`);
  const view = new DataView(data.buffer, data.byteOffset, 5);
  if (view.getUint32(0) !== MAGIC) throw invalidRecord("record", `does not begin with "TDMK"`);
  const version = view.getUint8(4);
  if (version > RECORD_FORMAT_VERSION) {
    throw newerRecord("record", `format version ${version}, this Tidemark reads up to ${RECORD_FORMAT_VERSION}`);
  }
  if (version === 0) throw invalidRecord("record", "format version 0 at byte 4 never existed");
  if (data.length < RECORD_HEADER_BYTES) {
    throw invalidRecord("record", `${data.length} bytes are shorter than the header of ${RECORD_HEADER_BYTES}`);
  }
}

/** A u64 as a number; -1 when it is too large for one. */
function safeInteger(view: DataView, byteOffset: number): number {
  const value = view.getBigUint64(byteOffset);
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : -1;
}

function checkRanges(header: RecordHeader): void {
  const where = `record at offset ${header.offset}`;
  const unknown = header.flags & ~KNOWN_FLAGS;
  if (unknown !== 0) throw newerRecord(where, `unknown flags 0x${unknown.toString(16)} at byte 6`);
  if (header.kind === 0) throw invalidRecord(where, "kind 0 at byte 5 does not exist");
  if (header.epoch < 1) throw invalidRecord(where, "epoch 0 at byte 8; epochs begin at 1");
  if (header.timeMs < 0 || header.timeMs > MAX_TIME_MS) throw invalidRecord(where, "time at byte 24 is no date");
}

function checkLengths(header: RecordHeader, recordBytes: number): void {
  const where = `record at offset ${header.offset}`;
  const { mapBytes, rawBytes, storedBytes } = header;
  const follow = recordBytes - RECORD_HEADER_BYTES;
  if (storedBytes !== follow) {
    throw invalidRecord(where, `stored length at byte 68 says ${storedBytes} bytes of body, ${follow} are there`);
  }
  if (rawBytes > MAX_RAW_BYTES) {
    throw invalidRecord(where, `raw length at byte 64 says ${rawBytes} bytes, at most ${MAX_RAW_BYTES} are possible`);
  }
  if (mapBytes > rawBytes) {
    throw invalidRecord(where, `map length at byte 12 says ${mapBytes} bytes of a raw body of ${rawBytes}`);
  }
  const bodyBytes = (header.flags & FLAG.encrypted) === 0 ? storedBytes : storedBytes - ENCRYPTION_BYTES;
  if (bodyBytes < 0) throw invalidRecord(where, `${storedBytes} bytes are too short for an encrypted body`);
  if ((header.flags & FLAG.zstd) === 0 && rawBytes !== bodyBytes) {
    throw invalidRecord(where, `raw length ${rawBytes} and stored length ${storedBytes} differ without compression`);
  }
}
