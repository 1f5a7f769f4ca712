import type { EventBody } from "../../event/kinds.ts";
import type { Offset } from "../../event/positions.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import type { CaptureFeed } from "../capture-feed.ts";
import type { FileFeed } from "./tree-seam.ts";

/** Waits for room in the log, not behind the commits that wait for files. */
export class FilesFeed implements FileFeed {
  /** Something was sent after the last consistent point. */
  unmarked = false;
  readonly #feed: CaptureFeed;

  constructor(feed: CaptureFeed) {
    this.#feed = feed;
  }

  async send(bodies: readonly EventBody[]): Promise<readonly Offset[]> {
    await this.#feed.writer.room();
    this.unmarked = true;
    const { offsets } = this.#feed.send(bodies);
    crashPoint("tree: sent");
    return offsets;
  }

  nextPut(): number {
    return this.#feed.nextNumber();
  }
}
