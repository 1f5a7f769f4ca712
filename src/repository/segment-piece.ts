import { decodeWithoutContent, encodeWithoutContent } from "../event/body-codec.ts";
import { kindOfCode } from "../event/body-fields.ts";
import { decodeRecordHeader, type RecordHeader } from "../event/codec.ts";
import type { EventBody, EventKind, LogEvent } from "../event/kinds.ts";
import { epoch, offset, type Offset } from "../event/positions.ts";
import { PageListReader } from "../event/page-list.ts";
import { newerRecord, RecordProblem } from "../event/record-error.ts";
import { FLAG, MAX_TIME_MS, RECORD_HEADER_BYTES } from "../event/record-header.ts";
import { invariant } from "../runtime/invariant.ts";
import { objectError, type ObjectPlace } from "./object-error.ts";
import type { ArchivedRecord, KeptRecord, OutlinedEvent, SegmentEvent, SegmentEventHead } from "./segment.ts";

/**
 * Events that are compressed as one: their number (u32), then a column of each field of their heads, then all maps, then
 * all page images. Alike stands beside alike, so that zstd sees what repeats.
 *
 *     u8   kind              u64  time, less that of the event before      u32  bytes of the map
 *     u16  flags             u32  stored bytes of the record's body        u32  bytes of page images
 *     u32  epoch
 */
const COLUMN_BYTES = [1, 2, 4, 8, 4, 4, 4] as const;
const [KIND, FLAGS, EPOCH, TIME, STORED, MAP, PAGES] = [0, 1, 2, 3, 4, 5, 6] as const;
const HEAD_BYTES = COLUMN_BYTES.reduce<number>((sum, bytes) => sum + bytes, 0);
const COUNT_BYTES = 4;
/** Of a commit. */
const LIKELY_MAP_BYTES = 256;
/** What only the record itself can have. */
const RECORD_ONLY_FLAGS = FLAG.zstd | FLAG.encrypted;
const KNOWN_FLAGS = FLAG.skippable | FLAG.consistent;

/** An event as it lies in a piece. */
export interface PackedEvent {
  readonly header: RecordHeader;
  readonly map: Uint8Array;
  readonly pages: readonly Uint8Array[];
  readonly pageBytes: number;
}

/** Page images are those of the event, not copies. @throws RecordProblem, RECORD_INVALID */
export function packEvent({ event, ...record }: ArchivedRecord | KeptRecord): PackedEvent {
  const header = "header" in record ? record.header : decodeRecordHeader(record.stored.data);
  invariant(event.body.kind !== "sealed", "what is archived was opened with its key");
  // Of a kind that this version does not know, only that it was there.
  if (event.body.kind === "skipped") return { header, map: new Uint8Array(0), pages: [], pageBytes: 0 };
  const { map, pieces, rawBytes } = encodeWithoutContent(event.body);
  return { header, map: Uint8Array.from(map), pages: pieces, pageBytes: rawBytes - map.length };
}

/** What it adds to a piece. */
export function packedBytes({ map, pageBytes }: PackedEvent): number {
  return HEAD_BYTES + map.length + pageBytes;
}

export function encodePiece(events: readonly PackedEvent[]): Uint8Array<ArrayBuffer> {
  const bytes = events.reduce((sum, event) => sum + packedBytes(event), COUNT_BYTES);
  const piece = Buffer.from(new ArrayBuffer(bytes));
  piece.writeUInt32BE(events.length, 0);
  const columns = columnsOf(events.length);
  let time = 0;
  for (const [index, { header, map, pageBytes }] of events.entries()) {
    const put = (column: number, value: number): void => {
      const width = COLUMN_BYTES[column] ?? 0;
      const at = (columns[column] ?? 0) + index * width;
      if (width === 8) piece.writeBigUInt64BE(BigInt(value), at);
      else piece.writeUIntBE(value, at, width);
    };
    put(KIND, header.kind);
    put(FLAGS, header.flags & ~RECORD_ONLY_FLAGS);
    put(EPOCH, header.epoch);
    put(TIME, header.timeMs - time);
    put(STORED, header.storedBytes);
    put(MAP, map.length);
    put(PAGES, pageBytes);
    time = header.timeMs;
  }
  let at = COUNT_BYTES + events.length * HEAD_BYTES;
  for (const run of [events.map(({ map }) => map), events.flatMap(({ pages }) => pages)]) {
    for (const part of run) {
      piece.set(part, at);
      at += part.length;
    }
  }
  return piece;
}

/** Where each column begins. */
function columnsOf(count: number): number[] {
  let at = COUNT_BYTES;
  return COLUMN_BYTES.map((width) => {
    const start = at;
    at += width * count;
    return start;
  });
}

export interface PiecePlace extends ObjectPlace {
  readonly first: Offset;
  readonly last: Offset;
}

/** Bodies are decoded when they are asked for; page images are views into `raw`. @throws RecordProblem */
export function decodePiece(raw: Uint8Array, place: PiecePlace): SegmentEvent[] {
  return layOut(raw, raw.length, place).map(({ head, map: [mapAt, mapEnd], pages: [pagesAt, pagesEnd] }) => {
    const [map, pages] = [raw.subarray(mapAt, mapEnd), raw.subarray(pagesAt, pagesEnd)];
    return { head, event: () => eventOf({ head, map, pages }, place) };
  });
}

/** So many bytes from its beginning say what its events are, as far as `start` tells it. @throws RecordProblem */
export function outlineBytes(start: Uint8Array, place: Pick<PiecePlace, "first" | "last">): number {
  const count = place.last - place.first + 1;
  const headsEnd = COUNT_BYTES + count * HEAD_BYTES;
  if (start.length < headsEnd) return headsEnd;
  const view = new DataView(start.buffer, start.byteOffset, start.length);
  const columnAt = columnsOf(count)[MAP] ?? 0;
  let bytes = headsEnd;
  for (let index = 0; index < count; index += 1) bytes += view.getUint32(columnAt + index * 4);
  return bytes;
}

/** A guess at outlineBytes. */
export function likelyOutlineBytes({ first, last }: Pick<PiecePlace, "first" | "last">): number {
  return COUNT_BYTES + (last - first + 1) * (HEAD_BYTES + LIKELY_MAP_BYTES);
}

/** What its events say of databases; `start` has outlineBytes at least. @throws RecordProblem, OBJECT_CORRUPT */
export function outlinePiece(start: Uint8Array, rawBytes: number, place: PiecePlace): OutlinedEvent[] {
  const events: OutlinedEvent[] = [];
  const lists = new PageListReader(start);
  for (const { head, map, pages } of layOut(start, rawBytes, place)) {
    const kind = kindOfCode(head.kind);
    if (kind !== "sqlite.part" && kind !== "sqlite.commit") continue;
    const { body, pageNumbers } = locatingBody({ head, kind, place }, () => lists.read(kind, map));
    const [pagesAt, pagesEnd] = pages;
    if (pagesEnd - pagesAt !== pageNumbers.length * body.pageSize)
      throw new RecordProblem(`the event at offset ${head.offset} has ${pagesEnd - pagesAt} bytes of pages`);
    events.push({ offset: head.offset, body, pageNumbers, pagesAt });
  }
  return events;
}

/** Where an event lies in a piece: from and to. */
interface EventPlace {
  readonly head: SegmentEventHead;
  readonly map: readonly [number, number];
  readonly pages: readonly [number, number];
}

/** `start`: the heads of a piece of so many bytes, and perhaps more of it. @throws RecordProblem */
function layOut(start: Uint8Array, rawBytes: number, place: PiecePlace): EventPlace[] {
  const count = place.last - place.first + 1;
  const view = new DataView(start.buffer, start.byteOffset, start.length);
  if (start.length < COUNT_BYTES || view.getUint32(0) !== count || start.length < COUNT_BYTES + count * HEAD_BYTES)
    throw new RecordProblem(`it does not hold the ${count} events that are said to be in it`);
  const columns = columnsOf(count);
  const events: EventPlace[] = [];
  let time = 0;
  let mapAt = COUNT_BYTES + count * HEAD_BYTES;
  let pagesAt = outlineBytes(start, place);
  for (let index = 0; index < count; index += 1) {
    const at = (column: number): number => (columns[column] ?? 0) + index * (COLUMN_BYTES[column] ?? 0);
    time += Number(view.getBigUint64(at(TIME)));
    const head = {
      kind: view.getUint8(at(KIND)),
      flags: view.getUint16(at(FLAGS)),
      epoch: epoch(view.getUint32(at(EPOCH))),
      offset: offset(place.first + index),
      timeMs: time,
      storedBytes: view.getUint32(at(STORED)),
    };
    checkHead(head);
    const [mapEnd, pagesEnd] = [mapAt + view.getUint32(at(MAP)), pagesAt + view.getUint32(at(PAGES))];
    if (pagesEnd > rawBytes || mapEnd > start.length)
      throw new RecordProblem(`the event at offset ${head.offset} goes beyond the end`);
    events.push({ head, map: [mapAt, mapEnd], pages: [pagesAt, pagesEnd] });
    [mapAt, pagesAt] = [mapEnd, pagesEnd];
  }
  if (pagesAt !== rawBytes) throw new RecordProblem(`${rawBytes - pagesAt} bytes follow its events`);
  return events;
}

function checkHead({ kind, flags, epoch: number, timeMs, offset: at }: SegmentEventHead): void {
  const isSound = kind !== 0 && number >= 1 && timeMs <= MAX_TIME_MS && (flags & ~KNOWN_FLAGS) === 0;
  if (!isSound) throw new RecordProblem(`the head of the event at offset ${at} is none`);
}

interface EventParts {
  readonly head: SegmentEventHead;
  readonly map: Uint8Array;
  readonly pages: Uint8Array;
}

/** @throws OBJECT_CORRUPT, RECORD_VERSION */
function eventOf({ head, map, pages }: EventParts, place: ObjectPlace): LogEvent {
  const { offset: at, epoch: number, timeMs, storedBytes, flags } = head;
  const consistent = (flags & FLAG.consistent) === 0 ? {} : { consistent: true as const };
  const whole = { offset: at, epoch: number, timeMs, bytes: storedBytes + RECORD_HEADER_BYTES, ...consistent };
  const kind = kindOfCode(head.kind);
  if (!kind) {
    if ((flags & FLAG.skippable) !== 0) return { ...whole, body: { kind: "skipped", code: head.kind } };
    throw newerRecord(`${place.location}: ${place.name}: event at offset ${at}`, `unknown kind ${head.kind}`);
  }
  const body: EventBody = locatingBody({ head, kind, place }, () => decodeWithoutContent(kind, map, pages));
  return { ...whole, body };
}

/** @throws OBJECT_CORRUPT, naming the event */
function locatingBody<T>(
  { head, kind, place }: { readonly head: SegmentEventHead; readonly kind: EventKind; readonly place: ObjectPlace },
  decode: () => T,
): T {
  try {
    return decode();
  } catch (error) {
    throw objectError(error, { ...place, name: `${place.name}: event at offset ${head.offset} (${kind})` });
  }
}
