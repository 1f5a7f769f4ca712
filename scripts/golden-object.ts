import { readFileSync } from "node:fs";
import path from "node:path";

import { decodeRecord } from "../src/event/codec.ts";
import { FsStore } from "../src/repository/fs-store.ts";
import { decodeBase, encodeBase } from "../src/repository/base-codec.ts";
import type { BaseManifest, TableBlock, VerifiedNote } from "../src/repository/base.ts";
import { decodeConfig, encodeConfig } from "../src/repository/config-object.ts";
import { decodeEnvelopeHead, encodeEnvelope, type EnvelopeKey, openEnvelope } from "../src/repository/envelope.ts";
import { decodeKeyObject, encodeKeyObject, type KeyObject } from "../src/repository/keys/key-object.ts";
import {
  decodeExpired,
  decodeLock,
  decodeVerified,
  encodeExpired,
  encodeLock,
  encodeVerified,
  type ExpiredNote,
  type LockNote,
} from "../src/repository/notes.ts";
import { ObjectSegmentStore } from "../src/repository/object-segment-store.ts";
import { OpenPack } from "../src/repository/open-pack.ts";
import { blobAs, decodeIndex, encodeIndex, type PackListing } from "../src/repository/pack.ts";
import { openSealed } from "../src/repository/sealer.ts";
import { plainSealer } from "../src/repository/plain-sealer.ts";
import { readListing } from "../src/repository/refresh-index.ts";
import type { RepositoryConfig } from "../src/repository/repository.ts";
import { SealedObjects } from "../src/repository/sealed-objects.ts";
import type { BlobType, ObjectKind } from "../src/repository/sealer.ts";
import { encodeSegments } from "../src/repository/segment-encoder.ts";
import { decodeTableBlock, encodeTableBlock } from "../src/repository/table-block.ts";
import { TreeListCutter, TreeListReader } from "../src/repository/tree-list.ts";
import type { TreeEntry } from "../src/tree/tree-index.ts";

/** proto/golden/repository/*.json: bytes as `hex:…`, u64 and i64 as `int:…`. */
export interface GoldenObject {
  /** What the vector shows. */
  readonly about: string;
  readonly kind: ObjectKind | "config" | "key";
  /** Name of the object; of a blob its id. */
  readonly name: string;
  /** What a reader gets. Without it the reader refuses, with `error`. */
  readonly value?: unknown;
  readonly error?: string;
  /** zstd is in it: the bytes may differ between versions of the library, their meaning may not. */
  readonly compressed?: boolean;
  /** Our writer says more by now: it is only read. */
  readonly former?: boolean;
  /** key: an identity that opens it, and what is in it then. */
  readonly opened?: { readonly identity: string; readonly dataKey: string; readonly nameKey: string };
  readonly encryption?: { readonly id: string; readonly dataKey: string; readonly nonce: string };
  /** pack: blobs and their contents. segment: vectors of records. */
  readonly blobs?: readonly { readonly type: BlobType; readonly id: string; readonly data: string }[];
  readonly logId?: string;
  readonly records?: readonly string[];
  /** Made from this vector, with a byte changed, or under another's name. */
  readonly made?: { readonly from: string; readonly byte?: number; readonly value?: number };
}

interface Codec {
  readonly encode: (value: never) => Uint8Array;
  readonly decode: (raw: Uint8Array) => unknown;
}

const bytesCodec: Codec = { encode: (data: Uint8Array) => data, decode: (raw) => raw };

/** What is in the envelope. */
const CODECS: Readonly<Partial<Record<ObjectKind, Codec>>> = {
  chunk: bytesCodec,
  extent: bytesCodec,
  patch: bytesCodec,
  table: { encode: (table: TableBlock) => encodeTableBlock(table), decode: (raw) => decodeTableBlock(raw) },
  list: { encode: encodeList, decode: (raw) => [...new TreeListReader("uploads").entries(raw)] },
  index: { encode: (packs: PackListing[]) => encodeIndex(packs), decode: decodeIndex },
  base: { encode: (manifest: BaseManifest) => encodeBase(manifest), decode: decodeBase },
  verified: { encode: (note: VerifiedNote) => encodeVerified(note), decode: decodeVerified },
  lock: { encode: (note: LockNote) => encodeLock(note), decode: decodeLock },
  expired: { encode: (note: ExpiredNote) => encodeExpired(note), decode: decodeExpired },
};

function codecOf(kind: ObjectKind): Codec {
  const codec = CODECS[kind];
  if (!codec) throw new Error(`${kind} has no codec of its own`);
  return codec;
}

function encodeList(entries: readonly TreeEntry[]): Uint8Array {
  const cutter = new TreeListCutter();
  const lists = entries.flatMap((entry) => cutter.add(entry));
  return Buffer.concat([...lists, cutter.end() ?? new Uint8Array(0)]);
}

/** `directory`: that of the vectors. */
export function bytesOfObject(vector: GoldenObject, directory: string): Uint8Array {
  if (vector.made) return madeFrom(vector.made, directory);
  if (vector.kind === "config") return encodeConfig(fromJson(vector.value) as RepositoryConfig);
  if (vector.kind === "key") return encodeKeyObject(fromJson(vector.value) as KeyObject);
  if (vector.kind === "pack") return packOf(vector);
  if (vector.kind === "segment") return segmentOf(vector, directory);
  const raw = codecOf(vector.kind).encode(fromJson(vector.value) as never);
  return encodeEnvelope({ kind: vector.kind, name: vector.name }, raw, keyOf(vector));
}

function madeFrom({ from, byte, value }: NonNullable<GoldenObject["made"]>, directory: string): Uint8Array {
  const other = JSON.parse(readFileSync(path.join(directory, `${from}.json`), "utf8")) as GoldenObject;
  const bytes = bytesOfObject(other, directory);
  if (byte !== undefined) bytes[byte] = value ?? 0;
  return bytes;
}

function packOf({ name, blobs = [] }: GoldenObject): Uint8Array {
  const pack = new OpenPack(name);
  for (const { type, id, data } of blobs) {
    const blob = { id: Buffer.from(id, "hex"), type };
    const raw = Buffer.from(data, "hex");
    pack.add({ ...blob, rawBytes: raw.length }, plainSealer.seal(blobAs(blob), raw));
  }
  return pack.close(plainSealer).data;
}

function segmentOf({ name, logId = "", records = [] }: GoldenObject, directory: string): Uint8Array {
  const archived = records.map((record) => {
    const data = readFileSync(path.join(directory, "..", `${record}.bin`));
    return { stored: { data }, event: decodeRecord(data) };
  });
  const [segment] = encodeSegments({ logId, records: archived }, plainSealer, () => name.slice(-36));
  if (segment?.name !== name) throw new Error(`the name is ${segment?.name}`);
  return segment.data;
}

function keyOf({ encryption }: GoldenObject): EnvelopeKey | undefined {
  if (!encryption) return undefined;
  const [id, dataKey, nonce] = [encryption.id, encryption.dataKey, encryption.nonce].map((digits) =>
    Buffer.from(digits, "hex"),
  );
  return id && dataKey && nonce ? { id, dataKey, nonce } : undefined;
}

/** What a reader gets from the object, which is in the repository of this directory. @throws what he throws */
export async function meaningOf(vector: GoldenObject, directory: string): Promise<unknown> {
  const { kind, name } = vector;
  const bytes = readFileSync(path.join(directory, name));
  if (kind === "config") return toJson(decodeConfig(bytes));
  if (kind === "key") return toJson(decodeKeyObject(bytes));
  const store = new FsStore(directory);
  const objects = new SealedObjects(store, plainSealer);
  const { signal } = new AbortController();
  if (kind === "pack") {
    const { blobs } = await readListing(objects, { name, bytes: bytes.length }, signal);
    const opened = blobs.map(async ({ position, storedBytes, ...blob }) => {
      const data = await openSealed(plainSealer, blobAs(blob), bytes.subarray(position, position + storedBytes));
      return { type: blob.type, id: hex(blob.id), data: hex(data) };
    });
    return await Promise.all(opened);
  }
  if (kind === "segment") {
    const segments = new ObjectSegmentStore(objects, () => new Set());
    const [info] = await Array.fromAsync(segments.list(signal));
    if (!info) throw new Error("no segment is listed");
    const events = (await Array.fromAsync(segments.read(info, { signal }))).flat();
    const read = events.map(({ head, event }) => ({ head, event: event() }));
    return toJson({ head: await segments.head(info, signal), events: read });
  }
  const head = decodeEnvelopeHead(bytes, { kind });
  return toJson(codecOf(kind).decode(openEnvelope({ kind, name }, bytes, { head, dataKey: keyOf(vector)?.dataKey })));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function toJson(value: unknown): unknown {
  if (typeof value === "bigint") return `int:${value}`;
  if (value instanceof Uint8Array) return `hex:${hex(value)}`;
  if (Array.isArray(value)) return value.map((one) => toJson(one) ?? null);
  if (value instanceof Map) return { map: [...(value as Map<string, unknown>)].map(toJson) };
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, one]) => one !== undefined);
  return Object.fromEntries(entries.map(([name, one]) => [name, toJson(one)]));
}

function fromJson(json: unknown): unknown {
  if (typeof json === "string" && json.startsWith("int:")) return BigInt(json.slice(4));
  if (typeof json === "string" && json.startsWith("hex:")) return Buffer.from(json.slice(4), "hex");
  if (Array.isArray(json)) return json.map(fromJson);
  if (typeof json !== "object" || json === null) return json;
  if ("map" in json) return new Map(fromJson(json.map) as [string, unknown][]);
  return Object.fromEntries(Object.entries(json).map(([name, one]) => [name, fromJson(one)]));
}
