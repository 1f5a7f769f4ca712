import { hash } from "node:crypto";

import { text, time } from "../event/field-rules.ts";
import { RecordProblem } from "../event/record-error.ts";
import { decodeMap, encodeMap, flag, type MapFormat, uuid } from "./fields.ts";
import { NewerObject } from "./object-error.ts";
import type { RepositoryConfig } from "./repository.ts";

/**
 * The object `config`: magic "TDMC", format version of the repository (u8), a map, and the first 16 bytes of the SHA-256 of
 * everything before. Never encrypted: it says whether the rest is.
 */
export const REPOSITORY_VERSION = 1;

const MAGIC = "TDMC";
const MAP_AT = 5;
const SEAL_BYTES = 16;
const MAX_BYTES = 4096;

const FORMAT: MapFormat = { fields: { id: uuid, set: text, createdMs: time, createdBy: text, encrypted: flag } };

export function encodeConfig(config: RepositoryConfig): Uint8Array {
  const plain = Buffer.concat([Buffer.from(MAGIC), Buffer.of(REPOSITORY_VERSION), encodeMap(FORMAT, config)]);
  return Buffer.concat([plain, sealOf(plain)]);
}

/** @throws RecordProblem, NewerObject */
export function decodeConfig(data: Uint8Array): RepositoryConfig {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.length);
  if (bytes.toString("latin1", 0, 4) !== MAGIC) throw new RecordProblem(`it does not begin with "${MAGIC}"`);
  const version = bytes[4] ?? 0;
  if (version > REPOSITORY_VERSION)
    throw new NewerObject(`format version ${version}, this Tidemark reads up to ${REPOSITORY_VERSION}`);
  if (version === 0) throw new RecordProblem("format version 0 at byte 4 never existed");
  if (bytes.length < MAP_AT + SEAL_BYTES || bytes.length > MAX_BYTES)
    throw new RecordProblem(`${bytes.length} bytes are no config's`);
  const mapEnd = bytes.length - SEAL_BYTES;
  if (!sealOf(bytes.subarray(0, mapEnd)).equals(bytes.subarray(mapEnd))) throw new RecordProblem("its seal is wrong");
  return decodeMap(FORMAT, bytes.subarray(MAP_AT, mapEnd)) as unknown as RepositoryConfig;
}

function sealOf(plain: Uint8Array): Buffer {
  return hash("sha256", plain, "buffer").subarray(0, SEAL_BYTES);
}
