import type { PackedBody } from "../../event/codec.ts";
import type { EventBody } from "../../event/kinds.ts";
import type { FileIndex } from "./file-index.ts";
import type { StagedChange, StagedContent } from "./staging.ts";
import type { FileFeed } from "./tree-seam.ts";

/** Records are sent together, so many or so many bytes. */
const BATCH_RECORDS = 256;
const BATCH_BYTES = 512 * 1024;
/** Beyond so many that are on their way whoever says more waits. */
const MOST_BATCHES = 2;

export interface Queued {
  readonly body: EventBody | PackedBody;
  readonly staged: readonly (StagedChange | StagedContent)[];
}

/**
 * Sends what is said of the trees of a set, in the order in which it was said. Of a tree that is the order in which it was
 * seen to be true, because whoever says something has looked at it in the same turn of the event loop. One for all
 * trees: what one of them refers to may be content that another one has said just before.
 */
export class Outbox {
  readonly #feed: FileFeed;
  readonly #index: FileIndex;
  #queue: Queued[] = [];
  #queuedBytes = 0;
  /** In the order in which they began. */
  readonly #sending = new Set<Promise<void>>();

  constructor(feed: FileFeed, index: FileIndex) {
    this.#feed = feed;
    this.#index = index;
  }

  get nameKey(): Uint8Array | undefined {
    return this.#feed.nameKey;
  }

  nextPut(): number {
    return this.#feed.nextPut();
  }

  /** `bytes`: of content, about. */
  add(queued: Queued, bytes: number): void {
    this.#queue.push(queued);
    this.#queuedBytes += bytes;
  }

  /** Of a place of which nothing new is said: stored with what was said last. */
  remember(change: StagedChange): void {
    const last = this.#queue.at(-1);
    if (last) this.#queue[this.#queue.length - 1] = { ...last, staged: [...last.staged, change] };
    else this.#index.staging.sent(change, this.#index.lastSent);
  }

  /** Resolves when more may be said. A few batches are on their way meanwhile. @throws as `flush` */
  async room(): Promise<void> {
    if (this.#queue.length < BATCH_RECORDS && this.#queuedBytes < BATCH_BYTES) return;
    this.#begin();
    if (this.#sending.size > MOST_BATCHES) await this.#sending.values().next().value;
  }

  /** Resolves when everything said so far is in the order of the log. @throws what the log refused it with */
  async flush(): Promise<void> {
    this.#begin();
    await Promise.all(this.#sending);
  }

  #begin(): void {
    const queue = this.#queue;
    if (queue.length === 0) return;
    this.#queue = [];
    this.#queuedBytes = 0;
    const sending = this.#send(queue);
    this.#sending.add(sending);
    // One that failed stays: whoever waits next learns of it.
    sending.then(
      () => this.#sending.delete(sending),
      () => undefined,
    );
  }

  async #send(queue: readonly Queued[]): Promise<void> {
    const offsets = await this.#feed.send(queue.map(({ body }) => body));
    queue.forEach(({ staged }, index) => {
      for (const one of staged) this.#index.sent(one, offsets[index] ?? 0);
    });
  }
}
