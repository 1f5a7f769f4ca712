import { CHUNK_ENTRY_BYTES, chunkCount, contentName } from "../../event/chunk-list.ts";
import type { DirectoryPut, EventBody, FilePut, LinkPut } from "../../event/kinds.ts";

import type { ByteString } from "../../event/tree-path.ts";
import { type EntryKind, sayingOf } from "./entry.ts";
import type { FileIndex } from "./file-index.ts";
import type { StagedChange, StagedContent } from "./staging.ts";
import type { TreeEntries } from "./tree-entries.ts";
import type { FileFeed, Removal } from "./tree-seam.ts";

/** Records are sent together, so many or so many bytes. */
const BATCH_RECORDS = 256;
const BATCH_BYTES = 512 * 1024;
/** Beyond so many that are on their way whoever says more waits. */
const MOST_BATCHES = 2;
/** A record has room for this many chunks beside the longest path and attributes. */
const CHUNKS_PER_RECORD = 6000;

interface Seen {
  readonly stamp: string;
  readonly always?: boolean;
}

interface Queued {
  readonly body: EventBody;
  readonly staged: readonly (StagedChange | StagedContent)[];
}

/**
 * Sends what is said of a tree, in the order in which it was said: that is the order in which it was seen to be true,
 * because whoever says something has looked at it in the same turn of the event loop.
 */
export class Publisher {
  readonly #feed: FileFeed;
  readonly #index: FileIndex;
  readonly #entries: TreeEntries;
  #queue: Queued[] = [];
  #queuedBytes = 0;
  /** In the order in which they began. */
  readonly #sending = new Set<Promise<void>>();

  constructor(feed: FileFeed, index: FileIndex, entries: TreeEntries) {
    this.#feed = feed;
    this.#index = index;
    this.#entries = entries;
  }

  knows(id: ByteString): boolean {
    return this.#index.hasContent(id);
  }

  get nameKey(): Uint8Array | undefined {
    return this.#feed.nameKey;
  }

  nextPut(): number {
    return this.#feed.nextPut();
  }

  /** Content that a later put needs; the log has it once. `data` belongs to the publisher from here on. */
  chunk(id: ByteString, data: Uint8Array): void {
    if (this.knows(id)) return;
    const body: EventBody = { kind: "file.chunk", id: Buffer.from(id, "latin1"), data };
    this.#add({ body, staged: [this.#index.staging.addContent(id)] }, data.length);
  }

  /** Says it unless the log says just this, or `always`. `stamp`: how it stood when it was looked at. */
  put(event: FilePut | DirectoryPut | LinkPut, { stamp, always = false }: Seen): boolean {
    const before = this.#entries.get(event.path);
    const saying = sayingOf(event);
    const size = event.kind === "file.put" ? event.size : 0;
    const group = event.kind === "file.put" ? (event.group ?? 0) : 0;
    const isNews = always || before?.saying !== saying;
    if (!isNews && before?.stamp === stamp) return false;
    const change = this.#entries.put(event.path, { kind: kindOf(event), stamp, size, group, saying }, before);
    if (!isNews) {
      this.#remember(change);
      return false;
    }
    const staged: (StagedChange | StagedContent)[] = [change];
    if (event.kind === "file.put" && event.data) staged.push(this.#index.staging.addContent(contentName(event)));
    const [parts, body] = event.kind === "file.put" ? split(event) : [[], event];
    for (const part of parts) this.#add({ body: part, staged: [] }, part.chunks.length);
    this.#add({ body, staged }, "data" in body && body.data ? body.data.length : 0);
    return true;
  }

  remove(removal: Removal): void {
    this.#add({ body: removal, staged: [this.#entries.remove(removal.path)] }, 0);
  }

  /** Between two files: resolves when more may be said. A few batches are on their way meanwhile. @throws as `flush` */
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

  /** Of a place of which nothing new is said: stored with what was said last. */
  #remember(change: StagedChange): void {
    const last = this.#queue.at(-1);
    if (last) this.#queue[this.#queue.length - 1] = { ...last, staged: [...last.staged, change] };
    else this.#index.staging.sent(change, this.#index.lastSent);
  }

  #add(queued: Queued, bytes: number): void {
    this.#queue.push(queued);
    this.#queuedBytes += bytes;
  }

  async #send(queue: readonly Queued[]): Promise<void> {
    const offsets = await this.#feed.send(queue.map(({ body }) => body));
    queue.forEach(({ staged }, index) => {
      for (const one of staged) this.#index.sent(one, offsets[index] ?? 0);
    });
  }
}

function kindOf({ kind }: FilePut | DirectoryPut | LinkPut): EntryKind {
  if (kind === "file.put") return "file";
  return kind === "dir.put" ? "dir" : "link";
}

/** The last record of a file holds its last chunks, those before it the others. */
function split(event: FilePut): readonly [readonly Extract<EventBody, { kind: "file.part" }>[], FilePut] {
  const { chunks, tree, put } = event;
  const parts = Math.max(0, Math.ceil(chunkCount(chunks) / CHUNKS_PER_RECORD) - 1);
  const bytes = CHUNKS_PER_RECORD * CHUNK_ENTRY_BYTES;
  return [
    Array.from({ length: parts }, (_, sequence) => ({
      kind: "file.part" as const,
      tree,
      put,
      sequence,
      chunks: chunks.subarray(sequence * bytes, (sequence + 1) * bytes),
    })),
    { ...event, parts, chunks: chunks.subarray(parts * bytes) },
  ];
}
