import { decodeRecordHeader } from "../event/codec.ts";
import { type Epoch, type Offset, offset } from "../event/positions.ts";
import type { TidemarkError } from "../runtime/errors.ts";
import { toLogError } from "./jetstream-connection.ts";
import { lookAgain } from "./jetstream-look.ts";
import { boundsOf, messageAt, type OpenStream } from "./jetstream-stream.ts";
import { fencedError, foreignWriterError, purgedError } from "./log-errors.ts";

/** One record on its way. */
export interface Entry {
  readonly offset: Offset;
  readonly epoch: Epoch;
  readonly data: Uint8Array;
  /** The same for the same bytes at the same offset, whoever sends them again. */
  readonly messageId: string;
  readonly call: Call;
  acknowledged: boolean;
}

/** One call of append. */
export interface Call {
  readonly bytes: number;
  readonly last: Offset;
  readonly settle: (outcome: Offset | Error) => void;
}

/**
 * Looks what the stream holds where `entries` should be, and marks those that landed. Returns what stands in the place of
 * one instead, or why it could not be found out.
 */
export async function markLanded(stream: OpenStream, entries: readonly Entry[]): Promise<TidemarkError | undefined> {
  const first = entries[0];
  if (!first) return undefined;
  try {
    const { last } = boundsOf(await lookAgain(stream, offset(first.offset - 1)));
    for (const entry of entries.filter(({ offset: at }) => at <= last)) {
      const stored = await messageAt(stream, entry.offset);
      const difference = differenceFrom(stored, { entry, location: stream.location, last });
      if (difference) return difference;
      entry.acknowledged = true;
    }
    return undefined;
  } catch (error) {
    return toLogError(error, stream.location);
  }
}

function differenceFrom(
  stored: Uint8Array | undefined,
  expected: { entry: Entry; location: string; last: number },
): TidemarkError | undefined {
  const { entry, location, last } = expected;
  if (!stored) return purgedError(location, entry.offset, last);
  if (Buffer.compare(stored, entry.data) === 0) return undefined;
  const epoch = epochIn(stored);
  if (epoch !== undefined && epoch > entry.epoch)
    return fencedError(location, { offset: entry.offset, epoch, ours: entry.epoch });
  return foreignWriterError(location, `offset ${entry.offset} holds a record that this writer did not write`);
}

function epochIn(data: Uint8Array): Epoch | undefined {
  try {
    return decodeRecordHeader(data).epoch;
  } catch {
    return undefined;
  }
}
