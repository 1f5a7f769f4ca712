import { blobName, encodeEntries, newPackName, type PackedBlob, type PackListing } from "./pack.ts";
import type { RepositorySealer } from "./sealer.ts";

/** A pack is closed before it grows beyond this; a blob that is larger has one to itself. */
const PACK_BYTES = 16 * 1024 * 1024;
const MAX_BLOBS = 20_000;

/** A pack that is being filled. */
export class OpenPack {
  readonly #name: string;
  readonly #pieces: Uint8Array[] = [];
  readonly #blobs: PackedBlob[] = [];
  readonly #ids = new Set<string>();
  #bytes = 0;

  constructor(name: string = newPackName()) {
    this.#name = name;
  }

  get isEmpty(): boolean {
    return this.#blobs.length === 0;
  }

  has(key: string): boolean {
    return this.#ids.has(key);
  }

  hasRoomFor(bytes: number): boolean {
    return this.isEmpty || (this.#bytes + bytes <= PACK_BYTES && this.#blobs.length < MAX_BLOBS);
  }

  add(blob: Pick<PackedBlob, "id" | "type" | "rawBytes">, sealed: Uint8Array): void {
    this.#blobs.push({ ...blob, id: Uint8Array.from(blob.id), position: this.#bytes, storedBytes: sealed.length });
    this.#ids.add(blobName(blob.id));
    this.#pieces.push(sealed);
    this.#bytes += sealed.length;
  }

  close(sealer: RepositorySealer): FullPack {
    const sealed = sealer.seal({ kind: "pack", name: this.#name }, encodeEntries(this.#blobs));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(sealed.length);
    const data = Buffer.concat([...this.#pieces, sealed, length]);
    return new FullPack({ name: this.#name, bytes: data.length, blobs: this.#blobs }, { data, ids: this.#ids });
  }
}

/** A pack as it is stored; it gives its memory up then. */
export class FullPack {
  readonly listing: PackListing;
  readonly #ids: ReadonlySet<string>;
  #data: Uint8Array | undefined;

  constructor(listing: PackListing, { data, ids }: { readonly data: Uint8Array; readonly ids: ReadonlySet<string> }) {
    this.listing = listing;
    this.#data = data;
    this.#ids = ids;
  }

  get isStored(): boolean {
    return this.#data === undefined;
  }

  /** Empty when it is stored. */
  get data(): Uint8Array {
    return this.#data ?? new Uint8Array(0);
  }

  has(key: string): boolean {
    return this.#ids.has(key);
  }

  stored(): void {
    this.#data = undefined;
  }
}
