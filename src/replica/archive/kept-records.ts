import { decodeRecordHeader } from "../../event/codec.ts";
import type { LogEvent } from "../../event/kinds.ts";
import type { KeptRecord } from "../../repository/segment.ts";
import { giveBack } from "../../runtime/give-back.ts";
import type { ReadRecord } from "./log-cursor.ts";

const CHUNK_BYTES = 1024 * 1024;

/**
 * Events that wait for their segment. Page images are copied into memory of its own: what a record and its decoded body lie
 * in is shared with others that passed at the same time, all of which would stay as long as one of them waits.
 */
export class KeptRecords {
  readonly records: KeptRecord[] = [];
  readonly #chunks: Buffer<ArrayBuffer>[] = [];
  #free = 0;

  add({ stored, event, hash }: ReadRecord): void {
    const header = decodeRecordHeader(stored.data);
    const previousHash = new Uint8Array(header.previousHash);
    this.records.push({
      header: { ...header, previousHash },
      hash: new Uint8Array(hash),
      event: { ...event, body: this.#kept(event.body) },
    });
  }

  /** They are stored. */
  free(): void {
    for (const { buffer } of this.#chunks) giveBack(buffer);
  }

  #kept(body: LogEvent["body"]): LogEvent["body"] {
    if ("pages" in body && "pageSize" in body) {
      const pages = body.pages.map(({ pageNumber, data }) => ({ pageNumber, data: this.#copy(data) }));
      return { ...body, pages };
    }
    // Content of files goes into packs.
    if (body.kind === "file.chunk") return { ...body, id: new Uint8Array(body.id), data: new Uint8Array(0) };
    if (body.kind !== "file.put") return body;
    const { data: _, ...without } = body;
    return { ...without, hash: new Uint8Array(without.hash), chunks: new Uint8Array(without.chunks) };
  }

  #copy(data: Uint8Array): Uint8Array {
    let chunk = this.#chunks.at(-1);
    if (!chunk || this.#free + data.length > chunk.length) {
      chunk = Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, data.length));
      this.#chunks.push(chunk);
      this.#free = 0;
    }
    const copy = chunk.subarray(this.#free, this.#free + data.length);
    copy.set(data);
    this.#free += data.length;
    return copy;
  }
}
