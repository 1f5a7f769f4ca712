import { randomUUID } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";

import { crashPoint } from "../runtime/crash-point.ts";
import { invariant } from "../runtime/invariant.ts";
import type { BlobIndex } from "./blob-index.ts";
import type { IndexView, Look } from "./index-view.ts";
import type { BlobsWritten, BlobWriter } from "./blob-store.ts";
import { BLOB_ID_BYTES, blobAs, blobName, encodeIndex, type PackedBlob } from "./pack.ts";
import { OpenPack, type FullPack } from "./open-pack.ts";
import { INDEX_PREFIX } from "./refresh-index.ts";
import type { SealedObjects } from "./sealed-objects.ts";
import type { BlobType } from "./sealer.ts";

/** Packs on their way at the same time: their memory is this writer's. */
const UPLOADS = 2;
/** Listed after so many blobs or packs, so that neither memory nor index objects grow without bound. */
const MAX_UNLISTED_BLOBS = 50_000;
const MAX_UNLISTED_PACKS = 200;
/** Sealing blocks the thread: others get their turn after so much of it. */
const BYTES_PER_TURN = 1024 * 1024;

export interface PackWriterOptions {
  readonly objects: SealedObjects;
  readonly index: BlobIndex;
  readonly view: IndexView;
  /** Ends what `add` sends. */
  readonly signal: AbortSignal;
}

/** Packs first, then the index object that names them, then the local index: nothing is said to be there that is not. */
export class PackWriter implements BlobWriter {
  readonly #options: PackWriterOptions;
  readonly #stop = new AbortController();
  #open = new OpenPack();
  /** Complete, not listed yet; in the order in which they were filled. */
  #full: FullPack[] = [];
  readonly #uploads = new Map<FullPack, Promise<void>>();
  #written = { blobs: 0, bytes: 0 };
  #sinceTurn = 0;
  /** The oldest look by which a blob was taken for there since the last `finish`. */
  #reliesOn: Look | undefined;

  constructor(options: PackWriterOptions) {
    this.#options = options;
  }

  async add(type: BlobType, data: Uint8Array, given?: Uint8Array): Promise<Uint8Array> {
    const { objects } = this.#options;
    const id = given ?? objects.sealer.blobId(data);
    invariant(id.length === BLOB_ID_BYTES, "a blob's name has 32 bytes");
    if (this.#holds(id) || (await this.#isThere(id))) return id;
    const sealed = objects.sealer.seal(blobAs({ id, type }), data);
    await this.#append({ id, type, rawBytes: data.length }, sealed);
    await this.#takeTurns(data.length);
    return id;
  }

  async copy(blob: PackedBlob, sealed: Uint8Array): Promise<void> {
    if (!this.#holds(blob.id)) await this.#append(blob, sealed);
  }

  async finish(signal: AbortSignal): Promise<BlobsWritten> {
    if (!this.#open.isEmpty) this.#close();
    // Those under way began with another signal, which may be aborted.
    await Promise.all(this.#uploads.values());
    for (const pack of this.#full) if (!pack.isStored) await this.#store(pack, signal);
    await this.#list(signal);
    if (this.#reliesOn) await this.#options.view.requireUnchanged(this.#reliesOn, signal);
    this.#reliesOn = undefined;
    const written = this.#written;
    this.#written = { blobs: 0, bytes: 0 };
    return written;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#uploads.values());
  }

  async #isThere(id: Uint8Array): Promise<boolean> {
    const { index, view, signal } = this.#options;
    const look = await view.recent(signal);
    if (!index.has(id)) return false;
    this.#reliesOn ??= look;
    return true;
  }

  async #append(blob: Pick<PackedBlob, "id" | "type" | "rawBytes">, sealed: Uint8Array): Promise<void> {
    if (!this.#open.hasRoomFor(sealed.length)) await this.#send();
    this.#open.add(blob, sealed);
  }

  #holds(id: Uint8Array): boolean {
    const key = blobName(id);
    return this.#open.has(key) || this.#full.some((pack) => pack.has(key));
  }

  /** The open pack is on its way when it resolves; what failed is told by the next `finish`, or sent then. */
  async #send(): Promise<void> {
    const signal = AbortSignal.any([this.#options.signal, this.#stop.signal]);
    const pack = this.#close();
    const upload = this.#store(pack, signal)
      .catch(() => undefined)
      .finally(() => this.#uploads.delete(pack));
    this.#uploads.set(pack, upload);
    while (this.#uploads.size >= UPLOADS) await Promise.race(this.#uploads.values());
    signal.throwIfAborted();
    // Whatever the store complained of it says again, to whoever can be told.
    for (const failed of this.#full) {
      if (!failed.isStored && !this.#uploads.has(failed)) await this.#store(failed, signal);
    }
    const unlisted = this.#full.reduce((sum, { listing }) => sum + listing.blobs.length, 0);
    if (unlisted < MAX_UNLISTED_BLOBS && this.#full.length < MAX_UNLISTED_PACKS) return;
    await Promise.all(this.#uploads.values());
    if (this.#full.every(({ isStored }) => isStored)) await this.#list(signal);
  }

  #close(): FullPack {
    const pack = this.#open.close(this.#options.objects.sealer);
    this.#open = new OpenPack();
    this.#full.push(pack);
    return pack;
  }

  async #store(pack: FullPack, signal: AbortSignal): Promise<void> {
    await this.#options.objects.store.put(pack.listing.name, pack.data, signal);
    crashPoint("repository: pack stored");
    pack.stored();
  }

  /** Everything that is full is stored. */
  async #list(signal: AbortSignal): Promise<void> {
    if (this.#full.length === 0) return;
    const { objects, index } = this.#options;
    const listings = this.#full.map(({ listing }) => listing);
    const name = `${INDEX_PREFIX}${randomUUID()}`;
    const indexBytes = await objects.put({ kind: "index", name }, encodeIndex(listings), signal);
    crashPoint("repository: index stored");
    index.addIndex(name, listings);
    this.#full = [];
    this.#written.bytes += indexBytes;
    for (const { blobs, bytes } of listings) {
      this.#written.blobs += blobs.length;
      this.#written.bytes += bytes;
    }
  }

  async #takeTurns(bytes: number): Promise<void> {
    this.#sinceTurn += bytes;
    if (this.#sinceTurn < BYTES_PER_TURN) return;
    this.#sinceTurn = 0;
    await nextTurn();
  }
}
