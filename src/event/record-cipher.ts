import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { EventKind } from "./kinds.ts";
import { type Offset, offset } from "./positions.ts";
import { RecordProblem } from "./record-error.ts";
import { AUTHENTICATED_HEADER_BYTES } from "./record-header.ts";

/**
 * The stored body of an encrypted record, proto/record.md:
 *
 *      0  u64   offset of the `key` record that announces the data key
 *      8  12 B  nonce, never used twice with a key
 *     20        AES-256-GCM of the body, compressed or not; authenticated with it: bytes 0 to 67 of the header
 *     -16 16 B  tag
 */
const NONCE_AT = 8;
const NONCE_BYTES = 12;
const CIPHERTEXT_AT = NONCE_AT + NONCE_BYTES;
const TAG_BYTES = 16;

const ALGORITHM = "aes-256-gcm";

/** What says who writes and with which key must be readable without one, and says nothing of what is protected. */
const NEVER_ENCRYPTED: ReadonlySet<EventKind> = new Set(["genesis", "epoch", "heartbeat", "key"]);

export function isEncryptable(kind: EventKind): boolean {
  return !NEVER_ENCRYPTED.has(kind);
}

export interface RecordEncryption {
  readonly dataKey: Uint8Array;
  /** Offset of the `key` record that announced it. */
  readonly keyOffset: Offset;
  /** 12 bytes; called once for each record. */
  readonly nextNonce: () => Uint8Array;
}

/** Encrypts `body` to where the stored body of `record` begins (`at`); the header is there already, but for what is not authenticated. */
export function encryptInto(
  record: Uint8Array,
  { at, body, encryption }: { at: number; body: Uint8Array; encryption: RecordEncryption },
): void {
  const nonce = encryption.nextNonce();
  new DataView(record.buffer, record.byteOffset).setBigUint64(at, BigInt(encryption.keyOffset));
  record.set(nonce, at + NONCE_AT);
  const cipher = createCipheriv(ALGORITHM, encryption.dataKey, nonce);
  cipher.setAAD(record.subarray(0, AUTHENTICATED_HEADER_BYTES));
  record.set(cipher.update(body), at + CIPHERTEXT_AT);
  cipher.final();
  record.set(cipher.getAuthTag(), at + CIPHERTEXT_AT + body.length);
}

/** Where the key is announced with which `stored` is encrypted. @throws RecordProblem */
export function keyOffsetOf(stored: Uint8Array, at: Offset): Offset {
  const found = new DataView(stored.buffer, stored.byteOffset).getBigUint64(0);
  if (found >= 1n && found < BigInt(at)) return offset(Number(found));
  throw new RecordProblem(`its key is said to be announced at offset ${found}, which is not before it`);
}

/** `header`: the first bytes of the record. @throws RecordProblem when it is not what was encrypted, or with another key */
export function decryptBody(stored: Uint8Array, header: Uint8Array, dataKey: Uint8Array): Uint8Array {
  const nonce = stored.subarray(NONCE_AT, CIPHERTEXT_AT);
  const decipher = createDecipheriv(ALGORITHM, dataKey, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(header.subarray(0, AUTHENTICATED_HEADER_BYTES));
  decipher.setAuthTag(stored.subarray(stored.length - TAG_BYTES));
  const body = decipher.update(stored.subarray(CIPHERTEXT_AT, stored.length - TAG_BYTES));
  try {
    decipher.final();
  } catch (error) {
    throw new RecordProblem("it is encrypted and does not open with its key: it was altered, or stood elsewhere", {
      cause: error,
    });
  }
  return body;
}

/** Nonces for one key: 8 random bytes, then a count. They stay unique across restarts and for more records than there will be. */
export class Nonces {
  readonly #nonce = Buffer.alloc(NONCE_BYTES);
  #left = 0;

  /** Valid until the next call. */
  next(): Uint8Array {
    if (this.#left === 0) {
      randomBytes(8).copy(this.#nonce);
      this.#left = 0xffffffff;
    }
    this.#nonce.writeUInt32BE(this.#left, 8);
    this.#left -= 1;
    return this.#nonce;
  }
}
