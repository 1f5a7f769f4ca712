import { kindOfCode } from "../event/body-fields.ts";
import { decodeRecordHeader, keyOffsetIn } from "../event/codec.ts";
import { type Offset, offset } from "../event/positions.ts";
import type { ChangeLog } from "./change-log.ts";

/** So many records are looked at; between them stands one that is encrypted unless nothing happened for long. */
const LOOK_BACK = 64;

/** The `key` record at `data`, or the one that it needs; undefined when it is not encrypted. */
export function keyOffsetFor(data: Uint8Array): Offset | undefined {
  const header = decodeRecordHeader(data);
  return kindOfCode(header.kind) === "key" ? header.offset : keyOffsetIn(data);
}

/** Where the key that is in use now was announced last; undefined when the newest records do not tell. */
export async function newestKeyOffset(log: ChangeLog): Promise<Offset | undefined> {
  const { first, last } = await log.bounds();
  for (let at = last; at >= Math.max(first, last - LOOK_BACK); at = offset(at - 1)) {
    const data = await log.get(at);
    const found = data && keyOffsetFor(data);
    if (found !== undefined) return found;
  }
  return undefined;
}
