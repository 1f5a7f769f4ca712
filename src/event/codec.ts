import { createHash } from "node:crypto";
import { giveBack } from "../runtime/give-back.ts";
import { type BodyParts, decodeBody, encodeBody } from "./body-codec.ts";
import { KIND_FORMATS, kindOfCode } from "./body-fields.ts";
import type { EventBody, LogEvent, Sealed, Skipped } from "./kinds.ts";
import type { Epoch, Offset } from "./positions.ts";
import { decryptBody, encryptInto, isEncryptable, keyOffsetOf, type RecordEncryption } from "./record-cipher.ts";
import { invalidRecord, locating, newerRecord, RecordProblem, tooLargeRecord } from "./record-error.ts";
import {
  decodeRecordHeader,
  ENCRYPTION_BYTES,
  FLAG,
  hasValidChecksum,
  MAX_RAW_BYTES,
  MAX_RECORD_BYTES,
  MAX_TIME_MS,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  writeHeaderFields,
  writeRecordChecksum,
} from "./record-header.ts";
import { compressFrame, decompressFrame } from "./zstd-frame.ts";

export {
  decodeRecordHeader,
  MAX_RECORD_BYTES,
  NO_PREVIOUS_HASH,
  RECORD_FORMAT_VERSION,
  type RecordHeader,
} from "./record-header.ts";

/** Smaller bodies gain nothing worth a decompression. */
const MIN_COMPRESS_BYTES = 256;
/** What is compressed to see whether more would come of it. */
const SAMPLES = 4;
const SAMPLE_BYTES = 4096;
/** The map without its page numbers: every text at its longest fits with room to spare. */
const MAP_RESERVE_BYTES = 1024;
const MAX_PAGE_NUMBER_BYTES = 5;

export interface RecordFields {
  readonly offset: Offset;
  readonly epoch: Epoch;
  /** ms since 1970; the caller sees to it that it never runs backwards. */
  readonly timeMs: number;
  /** SHA-256 of the previous encoded record; NO_PREVIOUS_HASH for offset 1. */
  readonly previousHash: Uint8Array;
  readonly body: EventBody | PackedBody;
  readonly consistent?: boolean | undefined;
  /** Encrypts the body, unless it is of a kind that never is. */
  readonly encryption?: RecordEncryption | undefined;
}

/** A body that is checked and laid out, and compressed if that makes it smaller: it can be made in another thread. */
export interface PackedBody {
  readonly packed: true;
  readonly kind: EventBody["kind"];
  readonly mapBytes: number;
  readonly rawBytes: number;
  readonly stored: Uint8Array;
  /** `stored` has a buffer of its own, with room for a header before it: it becomes the record. */
  readonly isRoomy?: true;
}

export type DecodedRecord = LogEvent & {
  /** View into the record. */
  readonly previousHash: Uint8Array;
};

/** How many page images surely fit into one record, even when nothing of them can be compressed: at least 7. */
export function pagesPerRecord(pageSize: number): number {
  const room = MAX_RECORD_BYTES - RECORD_HEADER_BYTES - MAP_RESERVE_BYTES;
  return Math.floor(room / (pageSize + MAX_PAGE_NUMBER_BYTES));
}

/**
 * The result owns its memory. Equal fields give equal bytes as long as the zstd library stays the same.
 *
 * @throws RECORD_TOO_LARGE, RECORD_INVALID when a field is not what the format allows
 */
export function encodeRecord(fields: RecordFields): Uint8Array {
  const { body } = fields;
  const where = `record at offset ${fields.offset} (${body.kind})`;
  locating(
    () => where,
    () => checkPosition(fields),
  );
  const { record, mapBytes, rawBytes } = "packed" in body ? fromPacked(body) : pack(body, where);
  const bodyBytes = record.length - RECORD_HEADER_BYTES;
  const encryption = isEncryptable(body.kind) ? fields.encryption : undefined;
  const storedBytes = bodyBytes + (encryption ? ENCRYPTION_BYTES : 0);
  const bytes = RECORD_HEADER_BYTES + storedBytes;
  if (bytes > MAX_RECORD_BYTES) throw tooLargeRecord(where, `${bytes} bytes`, MAX_RECORD_BYTES);
  const zstd = bodyBytes < rawBytes ? FLAG.zstd : 0;
  const header: RecordHeader = {
    kind: KIND_FORMATS[body.kind].code,
    flags: zstd | (encryption ? FLAG.encrypted : 0) | (fields.consistent ? FLAG.consistent : 0),
    epoch: fields.epoch,
    offset: fields.offset,
    timeMs: fields.timeMs,
    previousHash: fields.previousHash,
    mapBytes,
    rawBytes,
    storedBytes,
  };
  return encryption ? sealed(record, header, encryption) : finished(record, header);
}

function finished(record: Uint8Array, header: RecordHeader): Uint8Array {
  writeHeaderFields(record, header);
  writeRecordChecksum(record);
  return record;
}

/** `plain` has room for a header before the body. Its memory is freed. */
function sealed(plain: Uint8Array, header: RecordHeader, encryption: RecordEncryption): Uint8Array {
  const record = Buffer.allocUnsafeSlow(RECORD_HEADER_BYTES + header.storedBytes);
  writeHeaderFields(record, header);
  const at = RECORD_HEADER_BYTES;
  encryptInto(record, { at, body: plain.subarray(RECORD_HEADER_BYTES), encryption });
  giveBack(plain.buffer);
  writeRecordChecksum(record);
  return record;
}

/** A record without its header. */
interface Headless {
  readonly record: Uint8Array;
  readonly mapBytes: number;
  readonly rawBytes: number;
}

function pack(body: EventBody, where: string, isDoubtful = false): Headless {
  const parts = checkedParts(body, where);
  const plain = layOut(parts);
  const raw = plain.subarray(RECORD_HEADER_BYTES);
  const packed = isDoubtful && !isSampleSmaller(raw) ? undefined : compressBody(raw);
  const record = packed ? withRoomForHeader(packed) : plain;
  if (packed) {
    giveBack(plain.buffer);
    giveBack(packed.buffer);
  }
  return { record, mapBytes: parts.map.length, rawBytes: parts.rawBytes };
}

function fromPacked({ mapBytes, rawBytes, stored, isRoomy }: PackedBody): Headless {
  return { record: isRoomy ? new Uint8Array(stored.buffer) : withRoomForHeader(stored), mapBytes, rawBytes };
}

/**
 * One body as encodeRecord stores it, in memory of its own that becomes the record. `isDoubtful`: content like it could not be
 * compressed, so a sample of it is tried first.
 *
 * @throws RECORD_TOO_LARGE, RECORD_INVALID
 */
export function packBody(body: EventBody, { isDoubtful }: { readonly isDoubtful: boolean }): PackedBody {
  const { kind } = body;
  const { record, ...bytes } = pack(body, `record (${kind})`, isDoubtful);
  return { packed: true, kind, ...bytes, stored: record.subarray(RECORD_HEADER_BYTES), isRoomy: true };
}

/** Bodies one behind the other as they are before compression: what a thread needs to pack them. */
export interface PlainBodies {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly bodies: readonly Omit<PackedBody, "packed" | "stored">[];
}

/** @throws RECORD_TOO_LARGE, RECORD_INVALID */
export function layOutBodies(bodies: readonly EventBody[]): PlainBodies {
  const parts = bodies.map((body) => {
    const { map, pieces, rawBytes } = checkedParts(body, `record (${body.kind})`);
    // The map is valid until the next one is made.
    return { kind: body.kind, map: Uint8Array.from(map), pieces, rawBytes };
  });
  const bytes = new Uint8Array(parts.reduce((sum, { rawBytes }) => sum + rawBytes, 0));
  let at = 0;
  for (const { map, pieces } of parts) {
    for (const piece of [map, ...pieces]) {
      bytes.set(piece, at);
      at += piece.length;
    }
  }
  return { bytes, bodies: parts.map(({ kind, map, rawBytes }) => ({ kind, mapBytes: map.length, rawBytes })) };
}

function checkedParts(body: EventBody, where: string): BodyParts {
  const parts = locating(
    () => where,
    () => encodeBody(body),
  );
  if (parts.rawBytes > MAX_RAW_BYTES)
    throw tooLargeRecord(where, `${parts.rawBytes} bytes before compression`, MAX_RAW_BYTES);
  return parts;
}

/**
 * Page images and `previousHash` of the result are views: into `data` when the record is neither compressed nor encrypted.
 * A record of an unknown kind that its writer flagged as skippable comes back with a body of kind `skipped`, one that is
 * encrypted, without its `dataKey`, with a body of kind `sealed`.
 *
 * @throws RECORD_INVALID (names the offset and what is wrong), RECORD_VERSION (a newer Tidemark is needed)
 */
export function decodeRecord(data: Uint8Array, dataKey?: Uint8Array): DecodedRecord {
  const header = decodeRecordHeader(data);
  requireChecksum(data, header);
  return {
    offset: header.offset,
    epoch: header.epoch,
    timeMs: header.timeMs,
    bytes: data.length,
    previousHash: header.previousHash,
    ...((header.flags & FLAG.consistent) === 0 ? {} : { consistent: true }),
    body: bodyOf(header, data, dataKey),
  };
}

/** Offset of the record that announces the key with which this one is encrypted; undefined when none is needed to read it. */
export function keyOffsetIn(data: Uint8Array): Offset | undefined {
  const { flags, kind, offset } = decodeRecordHeader(data);
  if ((flags & FLAG.encrypted) === 0 || kindOfCode(kind) === undefined) return undefined;
  return locating(
    () => `record at offset ${offset}`,
    () => keyOffsetOf(data.subarray(RECORD_HEADER_BYTES), offset),
  );
}

/** @throws RECORD_INVALID when the record is not what its writer wrote */
export function requireChecksum(data: Uint8Array, { offset }: RecordHeader): void {
  if (!hasValidChecksum(data)) throw invalidRecord(`record at offset ${offset}`, "its checksum at byte 72 is wrong");
}

/** SHA-256 of an encoded record: what the next record names as its previous one. */
export function recordHash(data: Uint8Array): Uint8Array {
  return createHash("sha256").update(data).digest();
}

function bodyOf(header: RecordHeader, data: Uint8Array, dataKey: Uint8Array | undefined): EventBody | Skipped | Sealed {
  const kind = kindOfCode(header.kind);
  if (!kind) {
    if ((header.flags & FLAG.skippable) !== 0) return { kind: "skipped", code: header.kind };
    throw newerRecord(`record at offset ${header.offset}`, `unknown kind ${header.kind}`);
  }
  const where = (): string => `record at offset ${header.offset} (${kind})`;
  return locating(where, () => {
    const stored = data.subarray(RECORD_HEADER_BYTES);
    const encrypted = (header.flags & FLAG.encrypted) !== 0;
    if (encrypted && !isEncryptable(kind)) throw new RecordProblem("it is encrypted, which this kind never is");
    if (encrypted && !dataKey) return { kind: "sealed", of: kind };
    const packed = encrypted && dataKey ? decryptBody(stored, data, dataKey) : stored;
    const raw = (header.flags & FLAG.zstd) === 0 ? packed : decompressFrame(packed, header.rawBytes);
    if (encrypted && raw !== packed) giveBack(packed.buffer);
    const body = decodeBody(kind, raw, header.mapBytes);
    if (body.kind === "epoch" && body.epoch !== header.epoch) {
      throw new RecordProblem(`field epoch is ${body.epoch}, the header says ${header.epoch}`);
    }
    return body;
  });
}

function checkPosition(fields: RecordFields): void {
  const { offset, epoch, timeMs, previousHash, body } = fields;
  if (!Number.isSafeInteger(offset) || offset < 1) throw new RecordProblem("the offset is out of range");
  if (!Number.isInteger(epoch) || epoch < 1 || epoch > 0xffffffff) throw new RecordProblem("the epoch is out of range");
  if (!Number.isInteger(timeMs) || timeMs < 0 || timeMs > MAX_TIME_MS) throw new RecordProblem("the time is no date");
  if (previousHash.length !== 32) throw new RecordProblem("the hash of the previous record is not 32 bytes long");
  if (body.kind === "epoch" && (!("epoch" in body) || body.epoch !== epoch))
    throw new RecordProblem(`field epoch is not ${epoch}`);
}

/** Room for the header, then the raw body. Not from Node's shared pool: records are handed to worker threads. */
function layOut({ map, pieces, rawBytes }: BodyParts): Uint8Array {
  const record = Buffer.allocUnsafeSlow(RECORD_HEADER_BYTES + rawBytes);
  record.set(map, RECORD_HEADER_BYTES);
  let at = RECORD_HEADER_BYTES + map.length;
  for (const piece of pieces) {
    record.set(piece, at);
    at += piece.length;
  }
  return record;
}

function withRoomForHeader(stored: Uint8Array): Uint8Array {
  const record = Buffer.allocUnsafeSlow(RECORD_HEADER_BYTES + stored.length);
  record.set(stored, RECORD_HEADER_BYTES);
  return record;
}

/** Of a few places of it. */
function isSampleSmaller(raw: Uint8Array): boolean {
  const step = Math.floor(raw.length / SAMPLES);
  if (step <= SAMPLE_BYTES) return true;
  const sample = new Uint8Array(SAMPLES * SAMPLE_BYTES);
  for (let i = 0; i < SAMPLES; i += 1) sample.set(raw.subarray(i * step, i * step + SAMPLE_BYTES), i * SAMPLE_BYTES);
  return compressBody(sample) !== undefined;
}

/** Of 256 values about 221 are among so many random bytes, fewer than 100 among those of text, code or tables. */
const PROBE_BYTES = 512;
const RANDOM_VALUES = 200;

/** Whether zstd would find next to nothing in it, by a glance at its middle: to try costs more than a glance. */
export function looksRandom(raw: Uint8Array): boolean {
  if (raw.length < PROBE_BYTES) return false;
  const from = Math.floor((raw.length - PROBE_BYTES) / 2);
  return new Set(raw.subarray(from, from + PROBE_BYTES)).size >= RANDOM_VALUES;
}

/** Undefined when it does not become smaller. */
export function compressBody(raw: Uint8Array): Uint8Array | undefined {
  return raw.length <= MIN_COMPRESS_BYTES ? undefined : compressFrame(raw, { level: 1 });
}
