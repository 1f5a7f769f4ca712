import type { PageImage } from "../event/kinds.ts";
import { type Offset, offset } from "../event/positions.ts";
import type { DatabaseBuilder } from "./database-builder.ts";
import { requireGoingOn } from "./history.ts";
import { PagesBack, type WantedPage } from "./pages-back.ts";
import type { EventsBack } from "./plan-base.ts";
import type { BackwardPiece } from "./segments-back.ts";

/** Pages are gathered up to so many bytes, to be written in the order of their numbers. */
const GATHERED_BYTES = 16 * 1024 * 1024;
/** Pieces whose images are on their way at a time. */
const PIECES_AHEAD = 2;

export interface ReplayBackOptions {
  readonly back: EventsBack;
  readonly after: Offset;
  readonly through: Offset;
  readonly signal: AbortSignal;
  /** Events that were looked at. */
  readonly onEvents: (events: number) => void;
}

/** From where events are to be applied in their order. */
export interface ReplayedBack {
  readonly after: Offset;
  /** SHA-256 of the record at `after`, when it is known. */
  readonly previousHash: Uint8Array | undefined;
}

/**
 * Brings databases to where segments end, from the last event to the first: of each page only the last image is
 * decompressed, proved and written. The state that comes of it is proved by its checksum, and commits by following
 * each other. Parts of what is not closed there are left to whoever applies the rest.
 *
 * @throws what reading segments throws, CHECKSUM_MISMATCH, RECORD_INVALID, INTERRUPTED
 */
export async function replayBack(
  builders: ReadonlyMap<string, DatabaseBuilder>,
  { back, after, through, signal, onEvents }: ReplayBackOptions,
): Promise<ReplayedBack> {
  const reach = back.reach({ after, through });
  const databases = new Map([...builders].map(([name, { plan }]) => [name, new PagesBack(plan)]));
  const gathered = new GatheredPages(builders);
  let previousHash: Uint8Array | undefined;
  for await (const { piece, pages } of withPages(back.pieces({ after, through: reach, signal }), databases)) {
    requireGoingOn(signal);
    using _ = piece.outline;
    if (piece.outline.last >= reach) previousHash = piece.hashAfter;
    for (const { database, pageNumber, data } of pages) gathered.add(database, pageNumber, data);
    onEvents(through - piece.outline.first + 1);
  }
  gathered.write();
  let next = offset(reach + 1);
  for (const [name, pages] of databases) {
    const state = pages.end();
    if (state) builders.get(name)?.settle(state.offset, state);
    if (pages.openFrom !== undefined && pages.openFrom < next) next = pages.openFrom;
  }
  return { after: offset(next - 1), previousHash: next === reach + 1 ? previousHash : undefined };
}

interface NeededPage extends PageImage {
  readonly database: string;
}

interface PieceWithPages {
  readonly piece: BackwardPiece;
  readonly pages: readonly NeededPage[];
}

/** The images of one piece are fetched while the next ones are looked at. */
async function* withPages(
  pieces: AsyncIterable<BackwardPiece>,
  databases: ReadonlyMap<string, PagesBack>,
): AsyncGenerator<PieceWithPages, void, void> {
  const running: Promise<PieceWithPages>[] = [];
  try {
    for await (const piece of pieces) {
      const wanted = wantedOf(piece, databases);
      const fetched = imagesOf(piece, wanted);
      fetched.catch(() => undefined);
      running.push(fetched);
      const first = running.length > PIECES_AHEAD && running.shift();
      if (first) yield await first;
    }
    for (let first = running.shift(); first; first = running.shift()) yield await first;
  } finally {
    await Promise.allSettled(running);
  }
}

interface Wanted extends WantedPage {
  readonly database: string;
}

function wantedOf(
  { outline, after, through }: BackwardPiece,
  databases: ReadonlyMap<string, PagesBack>,
): readonly Wanted[] {
  const wanted: Wanted[] = [];
  for (const event of outline.events.toReversed()) {
    const { database } = event.body;
    if (event.offset <= after || event.offset > through) continue;
    for (const page of databases.get(database)?.take(event) ?? []) wanted.push({ database, ...page });
  }
  return wanted;
}

async function imagesOf(piece: BackwardPiece, wanted: readonly Wanted[]): Promise<PieceWithPages> {
  const end = wanted.reduce((most, { at, bytes }) => Math.max(most, at + bytes), 0);
  if (end === 0) return { piece, pages: [] };
  const raw = await piece.outline.raw(end);
  const pages = wanted.map(({ database, pageNumber, at, bytes }) => {
    return { database, pageNumber, data: raw.subarray(at, at + bytes) };
  });
  return { piece, pages };
}

/** Copies of page images, written when there are many of them. */
class GatheredPages {
  readonly #builders: ReadonlyMap<string, DatabaseBuilder>;
  readonly #memory = Buffer.allocUnsafeSlow(GATHERED_BYTES);
  readonly #pages = new Map<string, PageImage[]>();
  #bytes = 0;

  constructor(builders: ReadonlyMap<string, DatabaseBuilder>) {
    this.#builders = builders;
  }

  add(database: string, pageNumber: number, image: Uint8Array): void {
    if (this.#bytes + image.length > this.#memory.length) this.write();
    const data = this.#memory.subarray(this.#bytes, this.#bytes + image.length);
    data.set(image);
    this.#bytes += image.length;
    const pages = this.#pages.get(database) ?? [];
    pages.push({ pageNumber, data });
    this.#pages.set(database, pages);
  }

  write(): void {
    for (const [database, pages] of this.#pages) {
      this.#builders.get(database)?.putPages(pages.sort((one, other) => one.pageNumber - other.pageNumber));
    }
    this.#pages.clear();
    this.#bytes = 0;
  }
}
