import { createHash, type Hash } from "node:crypto";
import fs from "node:fs";
import { parentPort } from "node:worker_threads";

import { packBody } from "../../event/codec.ts";
import { errnoOf } from "../../runtime/errors.ts";
import { invariant } from "../../runtime/invariant.ts";
import { chunkLength, MAX_CHUNK_BYTES } from "../../tree/chunker.ts";
import { contentId } from "../../tree/content-id.ts";
import type { FromReader, LargeChunk, ToReader } from "./large-file-protocol.ts";

/** A thread that reads, cuts, hashes and packs large files: the main thread chains what it brings to the log meanwhile. */
const ANSWER_BYTES = 1024 * 1024;
const BUFFER_BYTES = ANSWER_BYTES + MAX_CHUNK_BYTES;

invariant(parentPort, "large-file-worker runs in a worker thread");
const port = parentPort;
const jobs = new Map<number, Job>();

class Job {
  readonly #fd: number;
  readonly #size: number;
  readonly #prefix: number;
  readonly #nameKey: Uint8Array | undefined;
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  readonly #hash = createHash("sha256");
  #prefixHash: Hash | undefined;
  /** Bytes of the file that were read; `#filled` of them are in the buffer. */
  #read = 0;
  #filled = 0;
  /** The last chunk did not become smaller: media and archives, most likely all of them. */
  #isDoubtful = false;

  constructor({ fd, size, prefix, nameKey }: Extract<ToReader, { type: "begin" }>) {
    this.#fd = fd;
    this.#size = size;
    this.#prefix = prefix;
    this.#nameKey = nameKey;
  }

  next(): Omit<FromReader, "id"> {
    if (!this.#fill()) return { chunks: [], short: true };
    const chunks: LargeChunk[] = [];
    let at = 0;
    const atEnd = this.#read === this.#size;
    while (at < this.#filled && (atEnd || this.#filled - at >= MAX_CHUNK_BYTES)) {
      const bytes = chunkLength(this.#buffer, at, this.#filled);
      chunks.push(this.#chunk(this.#buffer.subarray(at, at + bytes)));
      at += bytes;
    }
    this.#buffer.copyWithin(0, at, this.#filled);
    this.#filled -= at;
    if (!atEnd || this.#filled > 0) return { chunks };
    return { chunks, end: { hash: this.#hash.digest(), prefixHash: this.#prefixHash?.digest() } };
  }

  #chunk(data: Buffer): LargeChunk {
    const id = contentId(data, this.#nameKey);
    const body = packBody(
      { kind: "file.chunk", id: Buffer.from(id, "latin1"), data },
      { isDoubtful: this.#isDoubtful },
    );
    this.#isDoubtful = body.stored.length === body.rawBytes;
    return { id, size: data.length, body };
  }

  /** false: the file ended before its size. */
  #fill(): boolean {
    while (this.#filled < BUFFER_BYTES && this.#read < this.#size) {
      const wanted = Math.min(BUFFER_BYTES - this.#filled, this.#size - this.#read);
      const bytes = fs.readSync(this.#fd, this.#buffer, this.#filled, wanted, this.#read);
      if (bytes === 0) return false;
      this.#update(this.#buffer.subarray(this.#filled, this.#filled + bytes));
      this.#filled += bytes;
      this.#read += bytes;
    }
    return true;
  }

  #update(data: Buffer): void {
    const before = this.#prefix - this.#read;
    if (before <= 0 || before > data.length) {
      this.#hash.update(data);
      return;
    }
    this.#hash.update(data.subarray(0, before));
    this.#prefixHash = this.#hash.copy();
    this.#hash.update(data.subarray(before));
  }
}

function answer(id: number, job: Job): void {
  try {
    const found = job.next();
    port.postMessage(
      { id, ...found } satisfies FromReader,
      found.chunks.map(({ body }) => body.stored.buffer as ArrayBuffer),
    );
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    port.postMessage({ id, chunks: [], error: { code: errnoOf(error) ?? "EIO", message } } satisfies FromReader);
  }
}

port.on("message", (message: ToReader) => {
  if (message.type === "begin") jobs.set(message.id, new Job(message));
  const job = jobs.get(message.id);
  if (message.type === "more" && job) answer(message.id, job);
  if (message.type === "end") jobs.delete(message.id);
});
