import { packMap } from "../src/event/message-pack.ts";
import { encodeRecord } from "../src/event/codec.ts";
import type { EventBody, LogEvent } from "../src/event/kinds.ts";
import { epoch, offset } from "../src/event/positions.ts";
import type { RecordEncryption } from "../src/event/record-cipher.ts";
import { encodeRecordHeader, RECORD_HEADER_BYTES, writeRecordChecksum } from "../src/event/record-header.ts";

/** A record's meaning as JSON, proto/record.schema.json: u64 and i64 as decimal text, bytes as hexadecimal. */
export interface RecordJson {
  readonly offset: number;
  readonly epoch: number;
  readonly timeMs: number;
  readonly previousHash: string;
  readonly consistent?: true;
  readonly body: Readonly<Record<string, unknown>>;
}

/** proto/golden/*.json. */
export interface GoldenVector {
  /** What the vector shows. */
  readonly about: string;
  /** What a reader gets; without it the reader refuses, with `error`. */
  readonly record?: RecordJson;
  readonly error?: string;
  /** The stored body is zstd: its bytes may differ between versions of the library, its meaning may not. */
  readonly compressed?: boolean;
  /** Encrypted: with what, as hexadecimal. */
  readonly encryption?: { readonly dataKey: string; readonly keyOffset: number; readonly nonce: string };
  /** Not written by this version's encoder, but by another version's or by hand. */
  readonly made?: MadeByHand;
}

export interface MadeByHand {
  readonly version: number;
  readonly kind: number;
  readonly flags: number;
  readonly offset: number;
  readonly epoch: number;
  readonly timeMs: number;
  readonly previousHash: string;
  readonly map: Readonly<Record<string, unknown>>;
}

const BIG_FIELDS: readonly string[] = ["checksumSeed", "before", "after", "mtimeNs"];
const BYTES_FIELDS: readonly string[] = ["id", "hash", "chunks", "data", "wrapped"];

export function bytesOfVector(vector: GoldenVector): Uint8Array {
  if (vector.made) return makeByHand(vector.made);
  if (!vector.record) throw new Error("a vector has a record or says how it was made");
  return encodeRecord({ ...fieldsOf(vector.record), encryption: encryptionOf(vector) });
}

function encryptionOf({ encryption }: GoldenVector): RecordEncryption | undefined {
  if (!encryption) return undefined;
  const { dataKey, keyOffset, nonce } = encryption;
  return {
    dataKey: Buffer.from(dataKey, "hex"),
    keyOffset: offset(keyOffset),
    nextNonce: () => Buffer.from(nonce, "hex"),
  };
}

export function toJson(event: LogEvent & { readonly previousHash: Uint8Array }): RecordJson {
  const { offset: at, epoch: number, timeMs, previousHash } = event;
  return {
    offset: at,
    epoch: number,
    timeMs,
    previousHash: hex(previousHash),
    ...(event.consistent ? { consistent: true } : {}),
    body: bodyToJson(event.body),
  };
}

function fieldsOf(json: RecordJson): Parameters<typeof encodeRecord>[0] {
  return {
    offset: offset(json.offset),
    epoch: epoch(json.epoch),
    timeMs: json.timeMs,
    previousHash: Buffer.from(json.previousHash, "hex"),
    consistent: json.consistent,
    body: bodyFromJson(json.body),
  };
}

function bodyToJson(body: LogEvent["body"]): Record<string, unknown> {
  const entries = Object.entries(body).map(([name, value]: [string, unknown]) => {
    return [name, valueToJson(value)] as const;
  });
  const json: Record<string, unknown> = Object.fromEntries(entries);
  if ("pages" in body) {
    json["pages"] = body.pages.map((page) => ({ pageNumber: page.pageNumber, data: hex(page.data) }));
  }
  return json;
}

function valueToJson(value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof Uint8Array) return hex(value);
  if (!(value instanceof Map)) return value;
  return Object.fromEntries([...value].map(([name, content]: [string, unknown]) => [name, valueToJson(content)]));
}

function bodyFromJson(json: Readonly<Record<string, unknown>>): EventBody {
  const body: Record<string, unknown> = { ...json };
  for (const name of BIG_FIELDS) if (name in body) body[name] = BigInt(body[name] as string);
  for (const name of BYTES_FIELDS) if (name in body) body[name] = Buffer.from(body[name] as string, "hex");
  if ("xattrs" in body) {
    const given = Object.entries(body["xattrs"] as Record<string, string>);
    body["xattrs"] = new Map(given.map(([name, content]) => [name, Buffer.from(content, "hex")]));
  }
  if ("pages" in body) {
    const pages = body["pages"] as readonly { pageNumber: number; data: string }[];
    body["pages"] = pages.map((page) => ({ pageNumber: page.pageNumber, data: Buffer.from(page.data, "hex") }));
  }
  return body as unknown as EventBody;
}

function makeByHand(made: MadeByHand): Uint8Array {
  const map = packMap(made.map);
  const record = new Uint8Array(RECORD_HEADER_BYTES + map.length);
  record.set(map, RECORD_HEADER_BYTES);
  encodeRecordHeader(record, {
    kind: made.kind,
    flags: made.flags,
    epoch: epoch(made.epoch),
    offset: offset(made.offset),
    timeMs: made.timeMs,
    previousHash: Buffer.from(made.previousHash, "hex"),
    mapBytes: map.length,
    rawBytes: map.length,
    storedBytes: map.length,
  });
  record[4] = made.version;
  writeRecordChecksum(record);
  return record;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}
