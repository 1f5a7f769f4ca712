import { oneOf, safe, text, time } from "../event/field-rules.ts";
import { RecordProblem } from "../event/record-error.ts";
import type { VerifiedNote } from "./base.ts";
import { decodeMap, encodeMap, listOf, type MapFormat, uuid } from "./fields.ts";
import { isObjectName } from "./object-store.ts";
import type { LockMode } from "./repository.ts";

/** What small objects say: who is at work, what was verified, what is to be deleted. Each is a map. */

/** locks/ */
export interface LockNote {
  readonly mode: LockMode;
  readonly host: string;
  readonly pid: number;
  /** When it was taken. */
  readonly sinceMs: number;
  /** When it was last renewed. */
  readonly atMs: number;
  /** See processIdentity; undefined where the system does not tell. */
  readonly process?: string | undefined;
}

/** expired/ */
export interface ExpiredNote {
  readonly atMs: number;
  /** Objects that nothing may refer to from now on. */
  readonly names: readonly string[];
}

const MAX_NAMES = 100_000;

const objectName = (value: unknown): unknown => {
  if (typeof value === "string" && isObjectName(value)) return value;
  throw new RecordProblem("it is not the name of an object");
};

const LOCK: MapFormat = {
  fields: { mode: oneOf("shared", "exclusive"), host: text, pid: safe, sinceMs: time, atMs: time },
  optional: { process: text },
};
const VERIFIED: MapFormat = { fields: { base: uuid, atMs: time, how: oneOf("sample", "full"), host: text } };
const EXPIRED: MapFormat = { fields: { atMs: time, names: listOf(objectName, MAX_NAMES) } };

export const encodeLock = (note: LockNote): Uint8Array => encodeMap(LOCK, note);
export const encodeVerified = (note: VerifiedNote): Uint8Array => encodeMap(VERIFIED, note);
export const encodeExpired = (note: ExpiredNote): Uint8Array => encodeMap(EXPIRED, note);

/** @throws RecordProblem */
export const decodeLock = (raw: Uint8Array): LockNote => decodeMap(LOCK, raw) as unknown as LockNote;
/** @throws RecordProblem */
export const decodeVerified = (raw: Uint8Array): VerifiedNote => decodeMap(VERIFIED, raw) as unknown as VerifiedNote;
/** @throws RecordProblem */
export const decodeExpired = (raw: Uint8Array): ExpiredNote => decodeMap(EXPIRED, raw) as unknown as ExpiredNote;
