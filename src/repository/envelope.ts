import { createCipheriv, createDecipheriv, createHash, timingSafeEqual } from "node:crypto";

import { RecordProblem } from "../event/record-error.ts";
import { compressFrame, decompressFrame, decompressStart } from "../event/zstd-frame.ts";
import { NewerObject } from "./object-error.ts";
import type { ObjectKind, SealedAs } from "./sealer.ts";

/**
 * The sealed envelope around every object but `config` and keys, and around every blob in a pack, big-endian. Specified in
 * proto/repository.md; bytes 0 to 4 keep their meaning in every version.
 *
 *      0  u32   magic "TDMO"            8  u32   raw length: before compression
 *      4  u8    format version         12  u32   body length
 *      5  u8    kind                   16  16 B  key id, 12 B nonce: only when encrypted
 *      6  u16   flags                   …        body, then a seal of 16 bytes
 *
 * seal: the tag of AES-256-GCM, or without a key the first half of a SHA-256 over head, name and body. The name (length u8,
 * then its bytes) is authenticated with the head.
 */
export const ENVELOPE_VERSION = 1;
export const HEAD_BYTES = 16;
export const SEAL_BYTES = 16;
/** What one adds at least. */
export const LEAST_ENVELOPE_BYTES = HEAD_BYTES + SEAL_BYTES;
/** The most that an envelope adds. */
export const MAX_ENVELOPE_BYTES = HEAD_BYTES + 16 + 12 + SEAL_BYTES;
/** Of what is in one envelope: the largest record has 16 MiB. */
export const MAX_RAW_BYTES = 20 * 1024 * 1024;

const MAGIC = 0x54444d4f;
const FLAG = { zstd: 1, encrypted: 2 } as const;
const KEY_ID_BYTES = 16;
const NONCE_BYTES = 12;
const NONCE_AT = HEAD_BYTES + KEY_ID_BYTES;
const ALGORITHM = "aes-256-gcm";
const LEVEL = 3;
/** Smaller ones gain nothing worth a decompression. */
const MIN_COMPRESS_BYTES = 256;

/** Most of what there is to restore. */
const CONTENTS: ReadonlySet<ObjectKind> = new Set(["chunk", "extent", "patch"]);
/** What compression must save of them, or every restore pays for it: a sixteenth. ZFS asks for an eighth. */
const CONTENT_SAVES = 16;

/** Codes are never used again for something else. */
const KIND_CODES: Readonly<Record<ObjectKind, number>> = {
  chunk: 1,
  extent: 2,
  patch: 3,
  table: 4,
  list: 5,
  pack: 16,
  index: 17,
  segment: 18,
  piece: 19,
  base: 20,
  verified: 21,
  lock: 22,
  expired: 23,
};

/** With what an envelope is encrypted. */
export interface EnvelopeKey {
  /** 16 bytes. */
  readonly id: Uint8Array;
  /** AES-256. */
  readonly dataKey: Uint8Array;
  /** 12 bytes, never twice the same with a key. */
  readonly nonce: Uint8Array;
}

export interface EnvelopeHead {
  readonly isCompressed: boolean;
  readonly rawBytes: number;
  readonly bodyBytes: number;
  /** Of head, body and seal together: what follows belongs to something else. */
  readonly bytes: number;
  /** 16 bytes; undefined when it is not encrypted. */
  readonly keyId: Uint8Array | undefined;
}

export function kindCode(kind: ObjectKind): number {
  return KIND_CODES[kind];
}

/** The result owns its memory. */
export function encodeEnvelope({ kind, name }: SealedAs, raw: Uint8Array, key?: EnvelopeKey): Uint8Array {
  if (raw.length > MAX_RAW_BYTES) throw new RangeError(`${name}: ${raw.length} bytes are too many for an object`);
  const leastSaved = CONTENTS.has(kind) ? raw.length / CONTENT_SAVES : 0;
  const packed =
    raw.length > MIN_COMPRESS_BYTES
      ? compressFrame(raw, { level: LEVEL, far: kind === "piece", leastSaved })
      : undefined;
  const body = packed ?? raw;
  const bodyAt = key ? NONCE_AT + NONCE_BYTES : HEAD_BYTES;
  const envelope = Buffer.allocUnsafeSlow(bodyAt + body.length + SEAL_BYTES);
  envelope.writeUInt32BE(MAGIC, 0);
  envelope[4] = ENVELOPE_VERSION;
  envelope[5] = KIND_CODES[kind];
  envelope.writeUInt16BE((packed ? FLAG.zstd : 0) | (key ? FLAG.encrypted : 0), 6);
  envelope.writeUInt32BE(raw.length, 8);
  envelope.writeUInt32BE(body.length, 12);
  if (key) {
    envelope.set(key.id, HEAD_BYTES);
    envelope.set(key.nonce, NONCE_AT);
  }
  const head = envelope.subarray(0, bodyAt);
  if (key) encryptInto(envelope, { name, body, key });
  else {
    envelope.set(body, bodyAt);
    envelope.set(plainSeal(head, name, body), bodyAt + body.length);
  }
  return envelope;
}

/**
 * Checks magic, version, flags and lengths. `data` may go on behind the envelope, or end before it: compare `bytes`.
 *
 * @throws RecordProblem, NewerObject
 */
export function decodeEnvelopeHead(data: Uint8Array, { kind }: Pick<SealedAs, "kind">): EnvelopeHead {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  if (data.length < HEAD_BYTES) throw new RecordProblem(`${data.length} bytes are too short for an object`);
  if (view.getUint32(0) !== MAGIC) throw new RecordProblem('it does not begin with "TDMO"');
  const version = view.getUint8(4);
  if (version > ENVELOPE_VERSION)
    throw new NewerObject(`format version ${version}, this Tidemark reads up to ${ENVELOPE_VERSION}`);
  if (version === 0) throw new RecordProblem("format version 0 at byte 4 never existed");
  const code = view.getUint8(5);
  if (code !== KIND_CODES[kind]) throw new RecordProblem(`kind ${code} at byte 5 is not ${KIND_CODES[kind]} (${kind})`);
  const flags = view.getUint16(6);
  if ((flags & ~(FLAG.zstd | FLAG.encrypted)) !== 0)
    throw new NewerObject(`unknown flags 0x${flags.toString(16)} at byte 6`);
  return checkedLengths(data, flags);
}

function checkedLengths(data: Uint8Array, flags: number): EnvelopeHead {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const isCompressed = (flags & FLAG.zstd) !== 0;
  const isEncrypted = (flags & FLAG.encrypted) !== 0;
  const bodyAt = isEncrypted ? NONCE_AT + NONCE_BYTES : HEAD_BYTES;
  const [rawBytes, bodyBytes] = [view.getUint32(8), view.getUint32(12)];
  if (rawBytes > MAX_RAW_BYTES)
    throw new RecordProblem(`raw length at byte 8 says ${rawBytes}, at most ${MAX_RAW_BYTES}`);
  const fits = isCompressed ? bodyBytes < rawBytes : bodyBytes === rawBytes;
  if (!fits) throw new RecordProblem(`raw length ${rawBytes} and body length ${bodyBytes} do not fit together`);
  if (data.length < bodyAt) throw new RecordProblem(`${data.length} bytes are too short for an encrypted object`);
  const keyId = isEncrypted ? data.subarray(HEAD_BYTES, NONCE_AT) : undefined;
  return { isCompressed, rawBytes, bodyBytes, bytes: bodyAt + bodyBytes + SEAL_BYTES, keyId };
}

/**
 * What was sealed under this name. `data` is exactly the envelope. A view into it, when neither compressed nor encrypted.
 *
 * @throws RecordProblem
 */
export function openEnvelope({ name }: SealedAs, data: Uint8Array, how: OpenedWith): Uint8Array {
  const { head, dataKey, atLeast } = how;
  const { rawBytes, bodyBytes, bytes } = head;
  if (data.length !== bytes) throw new RecordProblem(`it has ${data.length} bytes, its head says ${bytes}`);
  const bodyAt = bytes - SEAL_BYTES - bodyBytes;
  const body = dataKey ? decrypted(data, { name, bodyAt, dataKey }) : data.subarray(bodyAt, bodyAt + bodyBytes);
  const isProved = dataKey !== undefined || how.unproved === true;
  if (!isProved && !timingSafeEqual(plainSeal(data.subarray(0, bodyAt), name, body), data.subarray(bytes - SEAL_BYTES)))
    throw new RecordProblem("its seal is wrong: it was altered, or stands in another's place");
  if (!head.isCompressed) return body;
  return atLeast === undefined ? decompressFrame(body, rawBytes) : decompressStart(body, rawBytes, atLeast);
}

export interface OpenedWith {
  readonly head: EnvelopeHead;
  /** When `head.keyId` says that it is encrypted. */
  readonly dataKey: Uint8Array | undefined;
  /** So many bytes from the beginning are wanted, though all of it is proved. Undefined: all. */
  readonly atLeast?: number;
  /** See BlobStore.readUnproved. */
  readonly unproved?: boolean;
}

function plainSeal(head: Uint8Array, name: string, body: Uint8Array): Uint8Array {
  return createHash("sha256").update(head).update(nameBytes(name)).update(body).digest().subarray(0, SEAL_BYTES);
}

function nameBytes(name: string): Uint8Array {
  const bytes = Buffer.from(name);
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
}

function encryptInto(
  envelope: Uint8Array,
  { name, body, key }: { name: string; body: Uint8Array; key: EnvelopeKey },
): void {
  const bodyAt = NONCE_AT + NONCE_BYTES;
  const cipher = createCipheriv(ALGORITHM, key.dataKey, key.nonce);
  cipher.setAAD(Buffer.concat([envelope.subarray(0, bodyAt), nameBytes(name)]));
  envelope.set(cipher.update(body), bodyAt);
  cipher.final();
  envelope.set(cipher.getAuthTag(), bodyAt + body.length);
}

function decrypted(
  data: Uint8Array,
  { name, bodyAt, dataKey }: { name: string; bodyAt: number; dataKey: Uint8Array },
): Uint8Array {
  const decipher = createDecipheriv(ALGORITHM, dataKey, data.subarray(NONCE_AT, bodyAt), { authTagLength: SEAL_BYTES });
  decipher.setAAD(Buffer.concat([data.subarray(0, bodyAt), nameBytes(name)]));
  decipher.setAuthTag(data.subarray(data.length - SEAL_BYTES));
  const body = decipher.update(data.subarray(bodyAt, data.length - SEAL_BYTES));
  try {
    decipher.final();
  } catch (error) {
    throw new RecordProblem("it does not open with its key: it was altered, or stands in another's place", {
      cause: error,
    });
  }
  return body;
}
