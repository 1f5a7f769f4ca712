import type { PackedBody } from "../../event/codec.ts";
import type { EventBody } from "../../event/kinds.ts";
import type { Offset } from "../../event/positions.ts";
import type { BodyPacker } from "../../log/body-packer.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { giveBack } from "../../runtime/give-back.ts";
import { Waker } from "../../runtime/waker.ts";
import type { CaptureFeed } from "../capture-feed.ts";
import type { FileFeed } from "./tree-seam.ts";

/** So many records are packed in a thread; a few are sooner packed here. */
const MANY_RECORDS = 32;

/** Waits for room in the log, not behind the commits that wait for files. */
export class FilesFeed implements FileFeed {
  /** Something was sent after the last consistent point. */
  unmarked = false;
  /** Something was sent that the index has not stored. */
  unstored = false;
  /** Woken when something was sent. */
  readonly sent = new Waker();
  readonly #feed: CaptureFeed;
  readonly #packer: BodyPacker;
  #last: Promise<unknown> = Promise.resolve();

  constructor(feed: CaptureFeed, packer: BodyPacker) {
    this.#feed = feed;
    this.#packer = packer;
  }

  get nameKey(): Uint8Array | undefined {
    return this.#feed.writer.nameKey;
  }

  async send(bodies: readonly (EventBody | PackedBody)[]): Promise<readonly Offset[]> {
    const packed = bodies.length >= MANY_RECORDS && areAllPlain(bodies) ? this.#packer.pack(bodies) : bodies;
    const before = this.#last;
    const sent = this.#append(packed, before);
    this.#last = sent.catch(() => undefined);
    return sent;
  }

  nextPut(): number {
    return this.#feed.nextNumber();
  }

  async #append(
    packing: Promise<readonly PackedBody[]> | readonly (EventBody | PackedBody)[],
    before: Promise<unknown>,
  ): Promise<readonly Offset[]> {
    const bodies = await packing;
    await before;
    await this.#feed.writer.room();
    this.unmarked = true;
    const { offsets } = this.#feed.send(bodies);
    this.unstored = true;
    this.sent.wake();
    const [first] = bodies;
    // All that were packed together lie in one buffer, and the records are made.
    if (first && "packed" in first && !first.isRoomy) giveBack(first.stored.buffer);
    crashPoint("tree: sent");
    return offsets;
  }
}

function areAllPlain(bodies: readonly (EventBody | PackedBody)[]): bodies is readonly EventBody[] {
  return !bodies.some((body) => "packed" in body);
}
