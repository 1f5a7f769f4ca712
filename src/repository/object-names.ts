import { type Offset, offset } from "../event/positions.ts";

/** Of a safe integer: so many digits, so that names are in the order of numbers. */
const OFFSET_DIGITS = 16;
const UUID = "[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}";
const SEGMENT = new RegExp(`^segments/(\\d{16})-(\\d{16})-${UUID}$`);
const VERIFIED = new RegExp(`^verified/(${UUID})-${UUID}$`);
const BASE = new RegExp(`^bases/(\\d{16})-(${UUID})$`);

export const SEGMENT_PREFIX = "segments/";
export const BASE_PREFIX = "bases/";
export const VERIFIED_PREFIX = "verified/";
export const LOCK_PREFIX = "locks/";
export const EXPIRED_PREFIX = "expired/";
/** Of `check`, for a moment. */
export const PROBE_PREFIX = "probe-";

export function segmentName({ first, last }: { first: Offset; last: Offset }, uuid: string): string {
  return `${SEGMENT_PREFIX}${digits(first)}-${digits(last)}-${uuid}`;
}

/** Undefined: it is none. */
export function parseSegmentName(name: string): { first: Offset; last: Offset } | undefined {
  const [, from, to] = SEGMENT.exec(name) ?? [];
  const [first, last] = [Number(from), Number(to)];
  const isRun = Number.isSafeInteger(first) && Number.isSafeInteger(last) && first >= 1 && first <= last;
  return isRun ? { first: offset(first), last: offset(last) } : undefined;
}

/** Greater than the names of those that begin at or before `after`, and less than those of the others. */
export function segmentsAfter(after: Offset): string {
  return `${SEGMENT_PREFIX}${digits(after)}.`;
}

export function baseName(at: Offset, uuid: string): string {
  return `${BASE_PREFIX}${digits(at)}-${uuid}`;
}

export function parseBaseName(name: string): { offset: Offset; uuid: string } | undefined {
  const [, at, uuid] = BASE.exec(name) ?? [];
  return uuid !== undefined && Number.isSafeInteger(Number(at)) ? { offset: offset(Number(at)), uuid } : undefined;
}

/** UUID of the base that a note is about. */
export function parseVerifiedName(name: string): string | undefined {
  return VERIFIED.exec(name)?.[1];
}

function digits(at: Offset): string {
  return String(at).padStart(OFFSET_DIGITS, "0");
}
