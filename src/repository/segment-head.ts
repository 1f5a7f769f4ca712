import { hash, integer, MAX_PAGE_NUMBER, pageSize, safe, text, time, u64 } from "../event/field-rules.ts";
import { type Offset } from "../event/positions.ts";
import { RecordProblem } from "../event/record-error.ts";
import { MAX_ENVELOPE_BYTES, MAX_RAW_BYTES } from "./envelope.ts";
import { decodeMap, encodeMap, flag, idList, idsOf, listOf, type MapFormat, mapOf } from "./fields.ts";
import type { SegmentHead, SegmentInfo, SegmentPiece } from "./segment.ts";

const MAX_NAMES = 100_000;
const MAX_PIECES = 10_000;
const count = integer(0, MAX_PAGE_NUMBER);
const epochNumber = integer(1, 0xffffffff);

const DATABASE: MapFormat = {
  fields: {
    name: text,
    offset: safe,
    timeMs: time,
    pageSize,
    sizePages: count,
    checksum: u64,
    commits: safe,
    largestPages: count,
    parts: flag,
  },
  optional: { copy: safe },
};
const PIECE: MapFormat = { fields: { first: safe, last: safe, bytes: safe, rawBytes: integer(0, MAX_RAW_BYTES) } };

const FORMAT: MapFormat = {
  fields: {
    first: safe,
    last: safe,
    firstTimeMs: time,
    lastTimeMs: time,
    logId: text,
    firstEpoch: epochNumber,
    lastEpoch: epochNumber,
    hashBefore: hash,
    hashAfter: hash,
    databases: listOf(mapOf(DATABASE), MAX_NAMES),
    trees: listOf(text, MAX_NAMES),
    marks: listOf(mapOf({ fields: { name: text, offset: safe, timeMs: time } }), MAX_NAMES),
    pieces: listOf(mapOf(PIECE), MAX_PIECES),
  },
  optional: { lastConsistent: safe, checksumSeed: u64, contents: idList },
};

export function encodeHead(head: SegmentHead): Uint8Array {
  return encodeMap(FORMAT, head);
}

/** @throws RecordProblem when it is not what the object's name says, or its pieces are not one behind the other */
export function decodeHead(raw: Uint8Array, { first, last }: Pick<SegmentInfo, "first" | "last">): SegmentHead {
  const { contents: names, ...fields } = decodeMap(FORMAT, raw);
  const head = { lastConsistent: undefined, checksumSeed: undefined, ...fields };
  const { pieces, ...rest } = head as unknown as SegmentHead;
  if (rest.first !== first || rest.last !== last)
    throw new RecordProblem(`it has the events ${rest.first} to ${rest.last}, unlike its name`);
  let next: Offset = first;
  for (const piece of pieces) {
    if (piece.first !== next || piece.last < piece.first || piece.bytes > MAX_RAW_BYTES + MAX_ENVELOPE_BYTES)
      throw new RecordProblem("its pieces do not follow each other");
    next = (piece.last + 1) as Offset;
  }
  if (next !== last + 1) throw new RecordProblem("its pieces end before it does");
  const databases = rest.databases.map((one) => ({ ...one, copy: one.copy }));
  return { ...rest, databases, contents: names instanceof Uint8Array ? idsOf(names) : undefined, pieces };
}

/** Where a piece lies behind a head of so many bytes. */
export function pieceOffsets(headBytes: number, pieces: readonly SegmentPiece[]): number[] {
  let at = headBytes;
  return pieces.map(({ bytes }) => {
    const start = at;
    at += bytes;
    return start;
  });
}
