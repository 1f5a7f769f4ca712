import { hash, randomUUID } from "node:crypto";

import { ageFile, keyId, recipients, time } from "../../event/field-rules.ts";
import { RecordProblem } from "../../event/record-error.ts";
import type { WrappedKey } from "../../keys/data-key.ts";
import { decodeMap, encodeMap, type MapFormat } from "../fields.ts";
import { locatingObject, NewerObject } from "../object-error.ts";
import type { ObjectStore } from "../object-store.ts";

/**
 * An object `keys/<key id>-<uuid>`: magic "TDMY", format version (u8), a map, and the first 16 bytes of the SHA-256 of
 * everything before. A key has one for each time that it was wrapped for others; the newest counts.
 */
const MAGIC = "TDMY";
const VERSION = 1;
const MAP_AT = 5;
const SEAL_BYTES = 16;
const MAX_BYTES = 160 * 1024;
const PREFIX = "keys/";
const FORMAT: MapFormat = { fields: { id: keyId, wrapped: ageFile, recipients, createdMs: time, wrappedMs: time } };

/** A data key of a repository as it is stored. */
export interface KeyObject extends WrappedKey {
  /** When the key was made: the newest key is the one in use. */
  readonly createdMs: number;
  /** When it was wrapped for these recipients. */
  readonly wrappedMs: number;
}

export interface StoredKey extends KeyObject {
  /** Of the object. */
  readonly name: string;
}

export function encodeKeyObject({ id, ...rest }: KeyObject): Uint8Array {
  const map = encodeMap(FORMAT, { ...rest, id: Buffer.from(id, "hex") });
  const plain = Buffer.concat([Buffer.from(MAGIC), Buffer.of(VERSION), map]);
  return Buffer.concat([plain, sealOf(plain)]);
}

/** @throws RecordProblem, NewerObject */
export function decodeKeyObject(data: Uint8Array): KeyObject {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.length);
  if (bytes.toString("latin1", 0, 4) !== MAGIC) throw new RecordProblem(`it does not begin with "${MAGIC}"`);
  const version = bytes[4] ?? 0;
  if (version > VERSION) throw new NewerObject(`format version ${version}, this Tidemark reads up to ${VERSION}`);
  if (version === 0) throw new RecordProblem("format version 0 at byte 4 never existed");
  if (bytes.length < MAP_AT + SEAL_BYTES || bytes.length > MAX_BYTES)
    throw new RecordProblem(`${bytes.length} bytes are no key's`);
  const mapEnd = bytes.length - SEAL_BYTES;
  if (!sealOf(bytes.subarray(0, mapEnd)).equals(bytes.subarray(mapEnd))) throw new RecordProblem("its seal is wrong");
  const fields = decodeMap(FORMAT, bytes.subarray(MAP_AT, mapEnd)) as unknown as Omit<KeyObject, "id"> & {
    id: Uint8Array;
  };
  return { ...fields, id: Buffer.from(fields.id).toString("hex") };
}

/** Returns the name of the object. */
export async function putKeyObject(store: ObjectStore, key: KeyObject, signal: AbortSignal): Promise<string> {
  const name = `${PREFIX}${key.id}-${randomUUID()}`;
  await store.put(name, encodeKeyObject(key), signal);
  return name;
}

/** All of them, in the order of their names. @throws OBJECT_CORRUPT, REPOSITORY_VERSION */
export async function readKeyObjects(store: ObjectStore, signal: AbortSignal): Promise<StoredKey[]> {
  const found: StoredKey[] = [];
  for await (const { name, bytes } of store.list(PREFIX, signal)) {
    found.push(await readKeyObject(store, { name, bytes }, signal));
  }
  return found;
}

async function readKeyObject(
  store: ObjectStore,
  { name, bytes }: { name: string; bytes: number },
  signal: AbortSignal,
): Promise<StoredKey> {
  const place = { location: store.location, name };
  return locatingObject(place, async () => {
    if (bytes > MAX_BYTES) throw new RecordProblem(`${bytes} bytes are too many for a key`);
    const key = decodeKeyObject(await store.get(name, signal));
    if (name.startsWith(`${PREFIX}${key.id}-`)) return { ...key, name };
    throw new RecordProblem(`it holds the key ${key.id}: it stands in another's place`);
  });
}

/** Of the newest of each key, the one in use last. */
export function newestOfEach(objects: readonly StoredKey[]): StoredKey[] {
  const newest = new Map<string, StoredKey>();
  for (const one of objects.toSorted(byAge((key) => key.wrappedMs))) newest.set(one.id, one);
  return [...newest.values()].sort(byAge((key) => key.createdMs));
}

/** Clocks may agree: then names decide, for everybody in the same way. */
function byAge(ageOf: (key: StoredKey) => number): (one: StoredKey, other: StoredKey) => number {
  return (one, other) => ageOf(one) - ageOf(other) || (one.name < other.name ? -1 : 1);
}

function sealOf(plain: Uint8Array): Buffer {
  return hash("sha256", plain, "buffer").subarray(0, SEAL_BYTES);
}
