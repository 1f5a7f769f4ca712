import { kindOfCode } from "../event/body-fields.ts";
import { decodeRecord, decodeRecordHeader, type RecordHeader } from "../event/codec.ts";
import type { LogEvent } from "../event/kinds.ts";
import { type Offset, offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { TidemarkError } from "../runtime/errors.ts";

export interface ScanOptions {
  readonly after: Offset;
  readonly through: Offset;
  readonly signal: AbortSignal;
}

export interface ScannedRecord {
  readonly header: RecordHeader;
  readonly data: Uint8Array;
}

/** Records with their headers only: for finding things, at the speed of reading. What is applied is verified on its own. */
export async function* scanRecords(log: ChangeLog, options: ScanOptions): AsyncGenerator<ScannedRecord> {
  const { after, through, signal } = options;
  if (through <= after) return;
  let position = after;
  for await (const batch of log.read(after, { signal, follow: false })) {
    for (const { data } of batch) {
      position = offset(position + 1);
      yield { header: placed(log, position, () => decodeRecordHeader(data)), data };
      if (position >= through) return;
    }
  }
  requireGoingOn(signal);
  if (position < through) throw endedEarly(log, position, through);
}

/** Everything but page images of unfinished transactions, decoded. Undefined for those. */
export function decodeUnlessPart(log: ChangeLog, { header, data }: ScannedRecord): LogEvent | undefined {
  if (kindOfCode(header.kind) === "sqlite.part") return undefined;
  return placed(log, header.offset, () => decodeRecord(data));
}

/** A decoder does not always know where it is. */
export function placed<T>(log: ChangeLog, at: Offset, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    throw new TidemarkError(error.code, `${log.location}: offset ${at}: ${error.message}`, {
      hint: error.hint,
      cause: error,
    });
  }
}

/** @throws INTERRUPTED */
export function requireGoingOn(signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new TidemarkError("INTERRUPTED", "the restore was interrupted; nothing was handed over", {
    hint: "Run it again to restore.",
  });
}

export function endedEarly(log: ChangeLog, position: Offset, through: Offset): TidemarkError {
  return new TidemarkError(
    "LOG_REGRESSED",
    `${log.location}: it ended at offset ${position} while ${through} was there before`,
    {
      hint: "The log was replaced or cut while it was read. Look at its server or disk, then restore again.",
    },
  );
}
