import { randomUUID } from "node:crypto";

import { recordHash } from "../event/codec.ts";
import type { Offset } from "../event/positions.ts";
import { giveBack } from "../runtime/give-back.ts";
import { invariant } from "../runtime/invariant.ts";
import { segmentName } from "./object-names.ts";
import type { RepositorySealer } from "./sealer.ts";
import type { SegmentInfo, SegmentPiece, SegmentRun } from "./segment.ts";
import { encodeHead } from "./segment-head.ts";
import { encodePiece, type PackedEvent, packedBytes, packEvent } from "./segment-piece.ts";
import { summarize } from "./segment-summary.ts";

/** A reader holds one piece: what zstd can look back over, unless one event is larger. */
const PIECE_BYTES = 8 * 1024 * 1024;
/** Events of one segment before compression, so that its object has some 20 MiB at most. */
const SEGMENT_BYTES = 16 * 1024 * 1024;

export interface EncodedSegment extends SegmentInfo {
  readonly data: Uint8Array;
}

/** The segments of a run, in their order, made as they are asked for. */
export function* encodeSegments(
  { logId, records }: SegmentRun,
  sealer: RepositorySealer,
  newUuid: () => string = randomUUID,
): Generator<EncodedSegment> {
  for (let at = 0; at < records.length;) {
    const packed: PackedEvent[] = [];
    for (let bytes = 0; at < records.length; at += 1) {
      const event = packEvent(records[at] as SegmentRun["records"][number]);
      bytes += packedBytes(event);
      if (packed.length > 0 && bytes > SEGMENT_BYTES) break;
      packed.push(event);
    }
    const run = { logId, records: records.slice(at - packed.length, at) };
    yield encodeSegment(run, packed, { sealer, uuid: newUuid() });
  }
}

function encodeSegment(
  { logId, records }: SegmentRun,
  packed: readonly PackedEvent[],
  { sealer, uuid }: { readonly sealer: RepositorySealer; readonly uuid: string },
): EncodedSegment {
  const [firstPacked, lastPacked, lastRecord] = [packed[0], packed.at(-1), records.at(-1)];
  invariant(firstPacked && lastPacked && lastRecord, "a segment has events");
  const [from, to] = [firstPacked.header, lastPacked.header];
  invariant(to.offset - from.offset === packed.length - 1, "the events of a segment follow each other");
  const { offset: first } = from;
  const { offset: last } = to;
  const name = segmentName({ first, last }, uuid);
  const pieces: SegmentPiece[] = [];
  const sealed: Uint8Array[] = [];
  for (const events of cut(packed)) {
    const raw = encodePiece(events);
    const piece = sealer.seal({ kind: "piece", name: `${name}#${pieces.length}` }, raw);
    pieces.push({ ...ends(events), bytes: piece.length, rawBytes: raw.length });
    giveBack(raw.buffer);
    sealed.push(piece);
  }
  const head = encodeHead({
    first,
    last,
    firstTimeMs: from.timeMs,
    lastTimeMs: to.timeMs,
    logId,
    firstEpoch: from.epoch,
    lastEpoch: to.epoch,
    hashBefore: from.previousHash,
    hashAfter: "hash" in lastRecord ? lastRecord.hash : recordHash(lastRecord.stored.data),
    ...summarize(records.map(({ event }) => event)),
    pieces,
  });
  const data = Buffer.concat([sealer.seal({ kind: "segment", name }, head), ...sealed]);
  return { name, first, last, bytes: data.length, data };
}

function cut(events: readonly PackedEvent[]): PackedEvent[][] {
  const pieces: PackedEvent[][] = [];
  let bytes = Infinity;
  for (const event of events) {
    if (bytes + packedBytes(event) > PIECE_BYTES) {
      pieces.push([]);
      bytes = 0;
    }
    bytes += packedBytes(event);
    pieces.at(-1)?.push(event);
  }
  return pieces;
}

function ends(events: readonly PackedEvent[]): { first: Offset; last: Offset } {
  const [first, last] = [events[0]?.header.offset, events.at(-1)?.header.offset];
  invariant(first !== undefined && last !== undefined, "a piece has events");
  return { first, last };
}
