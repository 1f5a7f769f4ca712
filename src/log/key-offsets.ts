import { kindOfCode } from "../event/body-fields.ts";
import { decodeRecordHeader, keyOffsetIn } from "../event/codec.ts";
import { type Offset, offset } from "../event/positions.ts";
import { isEncryptable } from "../event/record-cipher.ts";
import type { ChangeLog } from "./change-log.ts";

/** Records that are looked at together on the way back: an idle log ends with heartbeats, many of them after a weekend. */
const WINDOW = 256;

/** The `key` record at `data`, or the one that it needs; undefined when it is not encrypted. */
export function keyOffsetFor(data: Uint8Array): Offset | undefined {
  const header = decodeRecordHeader(data);
  return kindOfCode(header.kind) === "key" ? header.offset : keyOffsetIn(data);
}

/** Where the key was announced last with which the log is encrypted at its end; undefined when it is not. */
export async function newestKeyOffset(log: ChangeLog): Promise<Offset | undefined> {
  const { first, last } = await log.bounds();
  for (let end = last; end >= first; end = offset(Math.max(0, end - WINDOW))) {
    const found = await newestIn(log, offset(Math.max(first - 1, end - WINDOW)), end);
    if (found !== undefined) return found === "plain" ? undefined : found;
  }
  return undefined;
}

/** What the last record between the two says that says anything. */
async function newestIn(log: ChangeLog, after: Offset, through: Offset): Promise<Offset | "plain" | undefined> {
  let newest: Offset | "plain" | undefined;
  const { signal } = new AbortController();
  for await (const records of log.read(after, { follow: false, signal })) {
    for (const { offset: at, data } of records) {
      if (at > through) return newest;
      newest = keyOffsetFor(data) ?? (isPlain(data) ? "plain" : newest);
    }
  }
  return newest;
}

/** A record that would be encrypted, were there a key. */
export function isPlain(data: Uint8Array): boolean {
  const kind = kindOfCode(decodeRecordHeader(data).kind);
  return kind !== undefined && isEncryptable(kind);
}
