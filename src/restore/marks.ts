import { kindOfCode } from "../event/body-fields.ts";
import { decodeRecord } from "../event/codec.ts";
import { type Offset, offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { scanRecords } from "./scan-log.ts";

/** A named offset. */
export interface ListedMark {
  readonly name: string;
  readonly offset: Offset;
  readonly timeMs: number;
}

/** All marks the log holds, oldest first. Reads the whole log, its headers only. @throws INTERRUPTED */
export async function listMarks(log: ChangeLog, signal: AbortSignal): Promise<ListedMark[]> {
  const { first, last } = await log.bounds();
  const marks: ListedMark[] = [];
  for await (const { header, data } of scanRecords(log, { after: offset(first - 1), through: last, signal })) {
    if (kindOfCode(header.kind) !== "mark") continue;
    const { body, offset: at, timeMs } = decodeRecord(data);
    if (body.kind === "mark") marks.push({ name: body.name, offset: at, timeMs });
  }
  return marks;
}
