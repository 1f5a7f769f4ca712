import type { Offset } from "../event/positions.ts";
import { RecordProblem } from "../event/record-error.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { hasCode } from "../runtime/errors.ts";
import { giveBack } from "../runtime/give-back.ts";
import { decodeEnvelopeHead, MAX_ENVELOPE_BYTES, MAX_RAW_BYTES } from "./envelope.ts";
import { parseSegmentName, SEGMENT_PREFIX, segmentsAfter } from "./object-names.ts";
import type { SealedObjects } from "./sealed-objects.ts";
import { encodeSegments } from "./segment-encoder.ts";
import { decodeHead, pieceOffsets } from "./segment-head.ts";
import { decodePiece } from "./segment-piece.ts";
import type {
  OpenSegment,
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
    return { head: opened.head, read: (options) => this.#readPieces(opened, options) };
  }

  async *read(segment: SegmentInfo, options: ReadSegmentOptions): AsyncGenerator<readonly SegmentEvent[], void, void> {
    yield* (await this.open(segment, { signal: options.signal, wants: "events" })).read(options);
  }

  #readPieces(opened: Opened, options: ReadSegmentOptions): AsyncGenerator<readonly SegmentEvent[], void, void> {
    const { segment, head, headBytes } = opened;
    const { signal, after = segment.first - 1, through = segment.last } = options;
    const starts = pieceOffsets(headBytes, head.pieces);
    const wanted = head.pieces
      .map((piece, index) => ({ index, piece, start: starts[index] ?? 0 }))
      .filter(({ piece }) => piece.last > after && piece.first <= through);
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

  async #piece(
    { segment, start: fetched }: Opened,
    { index, piece, start }: { readonly index: number; readonly piece: SegmentPiece; readonly start: number },
    signal: AbortSignal,
  ): Promise<Piece> {
    const { name } = segment;
    const objects = this.#objects;
    const end = start + piece.bytes;
    const stored =
      end <= fetched.length
        ? fetched.subarray(start, end)
        : await objects.range(name, { offset: start, bytes: piece.bytes }, signal);
    return objects.within(name, async () => {
      const raw = await objects.open({ kind: "piece", name: `${name}#${index}` }, stored);
      if (raw.length !== piece.rawBytes) throw new RecordProblem(`piece ${index} has ${raw.length} bytes`);
      const buffer = raw.buffer === stored.buffer ? undefined : raw.buffer;
      return {
        buffer,
        events: decodePiece(raw, { location: objects.location, name, first: piece.first, last: piece.last }),
      };
    });
  }
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
