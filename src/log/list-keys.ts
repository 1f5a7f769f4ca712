import { kindOfCode } from "../event/body-fields.ts";
import { decodeRecord, decodeRecordHeader } from "../event/codec.ts";
import type { Offset } from "../event/positions.ts";
import { offset } from "../event/positions.ts";
import type { ChangeLog } from "./change-log.ts";

/** A data key with which something in a log is encrypted. */
export interface ListedKey {
  /** Hexadecimal. */
  readonly id: string;
  /** Whose identities open it, as it was announced last. */
  readonly recipients: readonly string[];
  /** Its first announcement that the log still holds. */
  readonly offset: Offset;
  readonly timeMs: number;
}

/** Oldest first; the last one is in use. Reads the whole log, its headers only. */
export async function listKeys(log: ChangeLog, signal: AbortSignal): Promise<readonly ListedKey[]> {
  const keys = new Map<string, ListedKey>();
  const { first } = await log.bounds();
  for await (const records of log.read(offset(Math.max(0, first - 1)), { follow: false, signal })) {
    for (const { data } of records) {
      if (kindOfCode(decodeRecordHeader(data).kind) !== "key") continue;
      const { body, offset: at, timeMs } = decodeRecord(data);
      if (body.kind !== "key") continue;
      const id = Buffer.from(body.id).toString("hex");
      const known = keys.get(id) ?? { offset: at, timeMs };
      keys.set(id, { ...known, id, recipients: body.recipients });
    }
  }
  return [...keys.values()];
}
