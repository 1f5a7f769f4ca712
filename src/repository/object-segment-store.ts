import type { Offset } from "../event/positions.ts";
import { RecordProblem } from "../event/record-error.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { hasCode } from "../runtime/errors.ts";
import { giveBack, ownsLargeBuffer } from "../runtime/give-back.ts";
import { invariant } from "../runtime/invariant.ts";
import { decodeEnvelopeHead, MAX_ENVELOPE_BYTES, MAX_RAW_BYTES } from "./envelope.ts";
import { parseSegmentName, SEGMENT_PREFIX, segmentsAfter } from "./object-names.ts";
import type { SealedObjects } from "./sealed-objects.ts";
import type { SealedAs } from "./sealer.ts";
import { encodeSegments } from "./segment-encoder.ts";
import { decodeHead, pieceOffsets } from "./segment-head.ts";
import { decodePiece, likelyOutlineBytes, outlineBytes, outlinePiece } from "./segment-piece.ts";
import type {
  OpenSegment,
  PieceOutline,
  ReadSegmentOptions,
  SegmentEvent,
  SegmentEventHead,
  SegmentHead,
  SegmentInfo,
  SegmentPiece,
  SegmentRun,
  SegmentStore,
} from "./segment.ts";

/** Fetched of a segment at first when its events are wanted, and when only its head is. */
const FIRST_BYTES = 1024 * 1024;
const FIRST_HEAD_BYTES = 16 * 1024;

/** The beginning of a segment, as far as it was fetched. */
interface Opened {
  readonly segment: SegmentInfo;
  readonly head: SegmentHead;
  /** Where the first piece begins. */
  readonly headBytes: number;
  readonly start: Uint8Array;
}

/** Segments, each an object. */
export class ObjectSegmentStore implements SegmentStore {
  readonly #objects: SealedObjects;
  readonly #marked: (prefix: string) => ReadonlySet<string>;

  /** `marked`: names of those that are on their way out. */
  constructor(objects: SealedObjects, marked: (prefix: string) => ReadonlySet<string>) {
    this.#objects = objects;
    this.#marked = marked;
  }

  async *list(signal: AbortSignal, after?: Offset): AsyncGenerator<SegmentInfo, void, void> {
    const behind = after === undefined ? undefined : segmentsAfter(after);
    const marked = this.#marked(SEGMENT_PREFIX);
    for await (const { name, bytes } of this.#objects.store.list(SEGMENT_PREFIX, signal, behind)) {
      const parsed = parseSegmentName(name);
      if (parsed && !marked.has(name)) yield { name, bytes, ...parsed };
    }
  }

  async newest(signal: AbortSignal): Promise<SegmentHead | undefined> {
    const segments: SegmentInfo[] = [];
    for await (const segment of this.list(signal)) segments.push(segment);
    const furthest = segments.sort((one, other) => other.last - one.last || one.first - other.first);
    for (const [index, segment] of furthest.entries()) {
      try {
        return await this.head(segment, signal);
      } catch (error) {
        // One that is damaged was not written: its events are archived again as long as the log has them.
        const isLast = index === furthest.length - 1;
        if (isLast || !hasCode(error, "OBJECT_CORRUPT", "OBJECT_MISSING")) throw error;
      }
    }
    return undefined;
  }

  async head(segment: SegmentInfo, signal: AbortSignal): Promise<SegmentHead> {
    return (await this.open(segment, { signal, wants: "head" })).head;
  }

  async open(
    segment: SegmentInfo,
    { signal, wants }: { readonly signal: AbortSignal; readonly wants: "head" | "events" },
  ): Promise<OpenSegment> {
    const opened = await this.#open(segment, { bytes: wants === "head" ? FIRST_HEAD_BYTES : FIRST_BYTES, signal });
    return {
      head: opened.head,
      read: (options) => this.#readPieces(opened, options),
      outline: (piece, ofPiece) => this.#outline(opened, piece, ofPiece),
    };
  }

  async *read(segment: SegmentInfo, options: ReadSegmentOptions): AsyncGenerator<readonly SegmentEvent[], void, void> {
    yield* (await this.open(segment, { signal: options.signal, wants: "events" })).read(options);
  }

  #readPieces(opened: Opened, options: ReadSegmentOptions): AsyncGenerator<readonly SegmentEvent[], void, void> {
    const { segment } = opened;
    const { signal, after = segment.first - 1, through = segment.last } = options;
    const wanted = placesOf(opened).filter(({ piece }) => piece.last > after && piece.first <= through);
    const fetch = (at: number): Promise<Piece> | undefined => {
      const place = wanted[at];
      const piece = place && this.#piece(opened, place, signal);
      // It may never be asked for.
      piece?.catch(() => undefined);
      return piece;
    };
    return handedOut(fetch, ({ offset }) => offset > after && offset <= through);
  }

  async write(run: SegmentRun, signal: AbortSignal): Promise<SegmentInfo[]> {
    const written: SegmentInfo[] = [];
    for (const { data, ...segment } of encodeSegments(run, this.#objects.sealer)) {
      await this.#objects.store.put(segment.name, data, signal);
      crashPoint("repository: segment stored");
      written.push(segment);
    }
    return written;
  }

  async #open(segment: SegmentInfo, { bytes, signal }: { bytes: number; signal: AbortSignal }): Promise<Opened> {
    const { name } = segment;
    const as = { kind: "segment", name } as const;
    const objects = this.#objects;
    const first = await objects.range(name, { offset: 0, bytes: Math.min(bytes, segment.bytes) }, signal);
    return objects.within(name, async () => {
      const { bytes: headBytes } = decodeEnvelopeHead(first, as);
      if (headBytes > Math.min(segment.bytes, MAX_RAW_BYTES + MAX_ENVELOPE_BYTES))
        throw new RecordProblem(`its head has ${headBytes} bytes, all of it ${segment.bytes}`);
      const start =
        headBytes <= first.length ? first : await objects.range(name, { offset: 0, bytes: headBytes }, signal);
      const head = decodeHead(await objects.open(as, start.subarray(0, headBytes)), segment);
      const end = head.pieces.reduce((sum, piece) => sum + piece.bytes, headBytes);
      if (end !== segment.bytes) throw new RecordProblem(`it has ${segment.bytes} bytes, its head says ${end}`);
      return { segment, head, headBytes, start };
    });
  }

  async #outline(opened: Opened, index: number, signal: AbortSignal): Promise<PieceOutline> {
    const { name } = opened.segment;
    const objects = this.#objects;
    const place = placesOf(opened)[index];
    invariant(place, "only pieces that a segment has are asked for");
    const { first, last, rawBytes } = place.piece;
    let stored = await this.#stored(opened, place, signal);
    return objects.within(name, async () => {
      const startOf = async (bytes: number): Promise<Uint8Array> => {
        const found = await objects.openStart(pieceAs(name, index), stored, Math.min(bytes, rawBytes));
        ({ stored } = found);
        return found.start;
      };
      let start = await startOf(likelyOutlineBytes(place.piece));
      while (start.length < rawBytes && outlineBytes(start, place.piece) > start.length)
        start = await startOf(outlineBytes(start, place.piece));
      const events = outlinePiece(start, rawBytes, { location: objects.location, name, first, last });
      const raw = async (throughByte: number): Promise<Uint8Array> => {
        if (throughByte > start.length) start = await objects.within(name, () => startOf(throughByte));
        return start;
      };
      const free = (): void => {
        for (const bytes of [stored, start]) if (ownsLargeBuffer(bytes)) giveBack(bytes.buffer);
      };
      return { first, last, events, raw, [Symbol.dispose]: free };
    });
  }

  async #stored(
    { segment, start: fetched }: Opened,
    { piece, start }: Place,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const end = start + piece.bytes;
    if (end <= fetched.length) return fetched.subarray(start, end);
    return this.#objects.range(segment.name, { offset: start, bytes: piece.bytes }, signal);
  }

  async #piece(opened: Opened, place: Place, signal: AbortSignal): Promise<Piece> {
    const { name } = opened.segment;
    const { index, piece } = place;
    const objects = this.#objects;
    const stored = await this.#stored(opened, place, signal);
    return objects.within(name, async () => {
      const raw = await objects.open(pieceAs(name, index), stored);
      if (raw.length !== piece.rawBytes) throw new RecordProblem(`piece ${index} has ${raw.length} bytes`);
      const buffer = raw.buffer === stored.buffer ? undefined : raw.buffer;
      return {
        buffer,
        events: decodePiece(raw, { location: objects.location, name, first: piece.first, last: piece.last }),
      };
    });
  }
}

/** A piece of a segment, and where in it. */
interface Place {
  readonly index: number;
  readonly piece: SegmentPiece;
  readonly start: number;
}

function placesOf({ head: { pieces }, headBytes }: Opened): Place[] {
  const starts = pieceOffsets(headBytes, pieces);
  return pieces.map((piece, index) => ({ index, piece, start: starts[index] ?? 0 }));
}

function pieceAs(name: string, index: number): SealedAs {
  return { kind: "piece", name: `${name}#${index}` };
}

interface Piece {
  /** Of its page images; undefined when something else lies in it too. */
  readonly buffer: ArrayBufferLike | undefined;
  readonly events: readonly SegmentEvent[];
}

/** One is fetched while the one before it is used. */
async function* handedOut(
  fetch: (at: number) => Promise<Piece> | undefined,
  isWanted: (head: SegmentEventHead) => boolean,
): AsyncGenerator<readonly SegmentEvent[], void, void> {
  for (let at = 1, next = fetch(0); next; at += 1) {
    const { buffer, events } = await next;
    next = fetch(at);
    yield events.filter(({ head }) => isWanted(head));
    if (buffer) giveBack(buffer);
  }
}
