import type { PackedBody } from "../../event/codec.ts";
import { CHUNK_ENTRY_BYTES, chunkCount, contentName } from "../../event/chunk-list.ts";
import type { DirectoryPut, EventBody, FilePut, LinkPut } from "../../event/kinds.ts";
import type { ByteString } from "../../event/tree-path.ts";
import { giveBack } from "../../runtime/give-back.ts";
import { type EntryKind, sayingOf } from "./entry.ts";
import type { FileIndex } from "./file-index.ts";
import type { Outbox } from "./outbox.ts";
import type { StagedChange, StagedContent } from "./staging.ts";
import type { TreeEntries } from "./tree-entries.ts";
import type { Removal } from "./tree-seam.ts";

/** A record has room for this many chunks beside the longest path and attributes. */
const CHUNKS_PER_RECORD = 6000;

interface Seen {
  readonly stamp: string;
  readonly always?: boolean;
}

/** Says what there is to say of a tree, once, in the order in which it was seen to be true. */
export class Publisher {
  readonly #outbox: Outbox;
  readonly #index: FileIndex;
  readonly #entries: TreeEntries;

  constructor(outbox: Outbox, index: FileIndex, entries: TreeEntries) {
    this.#outbox = outbox;
    this.#index = index;
    this.#entries = entries;
  }

  knows(id: ByteString): boolean {
    return this.#index.hasContent(id);
  }

  get nameKey(): Uint8Array | undefined {
    return this.#outbox.nameKey;
  }

  nextPut(): number {
    return this.#outbox.nextPut();
  }

  /** Content that a later put needs; the log has it once. `data` belongs to the publisher from here on. */
  chunk(id: ByteString, data: Uint8Array): void {
    if (this.knows(id)) return;
    const body: EventBody = { kind: "file.chunk", id: Buffer.from(id, "latin1"), data };
    this.#outbox.add({ body, staged: [this.#index.staging.addContent(id)] }, data.length);
  }

  /** The same of a body that was made in another thread. */
  packedChunk(id: ByteString, body: PackedBody): void {
    if (this.knows(id)) giveBack(body.stored.buffer);
    else this.#outbox.add({ body, staged: [this.#index.staging.addContent(id)] }, body.stored.length);
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
      this.#outbox.remember(change);
      return false;
    }
    const staged: (StagedChange | StagedContent)[] = [change];
    if (event.kind === "file.put" && event.data) staged.push(this.#index.staging.addContent(contentName(event)));
    const [parts, body] = event.kind === "file.put" ? split(event) : [[], event];
    for (const part of parts) this.#outbox.add({ body: part, staged: [] }, part.chunks.length);
    this.#outbox.add({ body, staged }, "data" in body && body.data ? body.data.length : 0);
    return true;
  }

  remove(removal: Removal): void {
    this.#outbox.add({ body: removal, staged: [this.#entries.remove(removal.path)] }, 0);
  }

  /** Between two files: resolves when more may be said. @throws as `flush` */
  async room(): Promise<void> {
    await this.#outbox.room();
  }

  /** Resolves when everything said so far is in the order of the log. @throws what the log refused it with */
  async flush(): Promise<void> {
    await this.#outbox.flush();
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
