import { RecordProblem } from "../event/record-error.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { giveBack, shareOut } from "../runtime/give-back.ts";
import type { BlobIndex, BlobLocation } from "./blob-index.ts";
import { blobAs, blobName } from "./pack.ts";
import type { BlobNames, UnprovedBlob } from "./blob-store.ts";
import type { PlacedBlob } from "./placed-blob.ts";
import type { SealedObjects } from "./sealed-objects.ts";

/** Fetched side by side, at most so many requests, and so many bytes of what is stored and what comes of it. */
const PARALLEL = 8;
const MAX_BYTES_AHEAD = 32 * 1024 * 1024;
/** Of one request. */
const MAX_GROUP_BYTES = 2 * 1024 * 1024;
const MAX_GROUP_RAW_BYTES = 8 * 1024 * 1024;
/** Cheaper read over than asked for apart. */
const MAX_GAP_BYTES = 32 * 1024;

export interface BlobReaderOptions {
  readonly objects: SealedObjects;
  readonly index: BlobIndex;
  readonly refresh: (signal: AbortSignal) => Promise<void>;
  /** Looks into packs that no index object names. */
  readonly search: (signal: AbortSignal) => Promise<void>;
}

/** See BlobStore.readUnproved. */
interface HowProved {
  readonly unproved: boolean;
}

/** Blobs that lie near each other in a pack, in the order in which they are asked for. */
interface Group {
  readonly pack: string;
  readonly start: number;
  end: number;
  rawBytes: number;
  readonly blobs: BlobLocation[];
}

export class BlobReader {
  readonly #options: BlobReaderOptions;

  constructor(options: BlobReaderOptions) {
    this.#options = options;
  }

  /** From any pack that has it sound. @throws OBJECT_MISSING, OBJECT_CORRUPT, what the store throws */
  async read(id: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const tried = new Set<string>();
    let failure: TidemarkError | undefined;
    // It may lie elsewhere since the index was read; or what named its pack is lost.
    const { refresh, search } = this.#options;
    for (const look of [refresh, search, undefined]) {
      for (const location of this.#options.index.locations(id).filter(({ pack }) => !tried.has(pack))) {
        tried.add(location.pack);
        try {
          const [data] = await this.#fetch(groupOf(location), signal, { unproved: false });
          if (data) return data;
        } catch (error) {
          if (!hasCode(error, "OBJECT_MISSING", "OBJECT_CORRUPT")) throw error;
          failure ??= error;
        }
      }
      await look?.(signal);
    }
    throw failure ?? this.#missing(id);
  }

  readMany(ids: BlobNames, signal: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    return this.#inOrder(ids, signal, (group, stop) => this.#fetchOrRescue(group, stop, { unproved: false }));
  }

  readUnproved(ids: BlobNames, signal: AbortSignal): AsyncGenerator<UnprovedBlob, void, void> {
    return this.#inOrder<UnprovedBlob>(
      ids,
      signal,
      async (group, stop) => this.#placed(group) ?? (await this.#fetchOrRescue(group, stop, { unproved: true })),
    );
  }

  async *#inOrder<T>(
    ids: BlobNames,
    signal: AbortSignal,
    fetch: (group: Group, signal: AbortSignal) => Promise<readonly T[]>,
  ): AsyncGenerator<T, void, void> {
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    const groups = this.#groups(ids, both);
    const running: { readonly bytes: number; readonly blobs: Promise<readonly T[]> }[] = [];
    let ahead = 0;
    try {
      for (let isDone = false; ;) {
        while (!isDone && running.length < PARALLEL && ahead < MAX_BYTES_AHEAD) {
          const next = await groups.next();
          if (next.done) isDone = true;
          else {
            const bytes = next.value.end - next.value.start + next.value.rawBytes;
            const blobs = fetch(next.value, both);
            blobs.catch(() => undefined);
            running.push({ bytes, blobs });
            ahead += bytes;
          }
        }
        const first = running.shift();
        if (!first) return;
        yield* await first.blobs;
        ahead -= first.bytes;
      }
    } finally {
      stop.abort();
      await Promise.allSettled(running.map(({ blobs }) => blobs));
      await groups.return();
    }
  }

  async *#groups(ids: BlobNames, signal: AbortSignal): AsyncGenerator<Group, void, void> {
    let group: Group | undefined;
    for await (const id of ids) {
      const location = await this.#locate(id, signal);
      if (group && takesIn(group, location)) continue;
      if (group) yield group;
      group = groupOf(location);
    }
    if (group) yield group;
  }

  async #locate(id: Uint8Array, signal: AbortSignal): Promise<BlobLocation> {
    const { index, refresh, search } = this.#options;
    for (const look of [refresh, search, undefined]) {
      const found = index.locations(id)[0];
      if (found) return found;
      await look?.(signal);
    }
    throw this.#missing(id);
  }

  /** Undefined: they are to be fetched. */
  #placed({ pack, start, end, blobs }: Group): PlacedBlob[] | undefined {
    const file = this.#options.objects.inPlace(pack, { offset: start, bytes: end - start });
    if (file === undefined) return undefined;
    return blobs.map((blob) => {
      const { type, position, storedBytes, rawBytes } = blob;
      return { kind: type, file, position, storedBytes, rawBytes };
    });
  }

  /** What cannot be read as a group is read blob by blob, from other packs where there are some. */
  async #fetchOrRescue(group: Group, signal: AbortSignal, how: HowProved): Promise<Uint8Array[]> {
    try {
      return await this.#fetch(group, signal, how);
    } catch (error) {
      if (!hasCode(error, "OBJECT_MISSING", "OBJECT_CORRUPT")) throw error;
      const rescued: Uint8Array[] = [];
      for (const { id } of group.blobs) rescued.push(await this.read(id, signal));
      return rescued;
    }
  }

  async #fetch({ pack, start, end, blobs }: Group, signal: AbortSignal, how: HowProved): Promise<Uint8Array[]> {
    const { objects } = this.#options;
    const bytes = await objects.range(pack, { offset: start, bytes: end - start }, signal);
    const envelopes = blobs.map((blob) => {
      return { as: blobAs(blob), start: blob.position - start, bytes: blob.storedBytes, within: placeOf(blob) };
    });
    const { memory, raws } = await objects.openAll(bytes, envelopes, how);
    for (const [at, blob] of blobs.entries()) await this.#requireSize(blob, raws[at]?.length);
    const sharing = raws.filter(({ buffer }) => buffer === memory).length;
    if (sharing === 0) giveBack(memory);
    else shareOut(memory, sharing);
    return [...raws];
  }

  async #requireSize(blob: BlobLocation, bytes: number | undefined): Promise<void> {
    if (bytes === blob.rawBytes) return;
    await this.#options.objects.within(placeOf(blob), () => {
      throw new RecordProblem(`it has ${bytes} bytes, its listing says ${blob.rawBytes}`);
    });
  }

  #missing(id: Uint8Array): TidemarkError {
    const { location } = this.#options.objects;
    return new TidemarkError("OBJECT_MISSING", `${location}: no pack holds the blob ${blobName(id)}`, {
      hint: "`tidemark verify` tells what is missing and what depends on it.",
    });
  }
}

/** For messages. */
function placeOf({ pack, id }: BlobLocation): string {
  return `${pack}: blob ${blobName(id)}`;
}

function groupOf(location: BlobLocation): Group {
  const { pack, position, storedBytes, rawBytes } = location;
  return { pack, start: position, end: position + storedBytes, rawBytes, blobs: [location] };
}

/** Takes in what lies in the group, or a little behind it. */
function takesIn(group: Group, location: BlobLocation): boolean {
  const { pack, position, storedBytes, rawBytes } = location;
  const end = Math.max(group.end, position + storedBytes);
  const isNear = pack === group.pack && position >= group.start && position <= group.end + MAX_GAP_BYTES;
  const fits = end - group.start <= MAX_GROUP_BYTES && group.rawBytes + rawBytes <= MAX_GROUP_RAW_BYTES;
  if (!isNear || !fits) return false;
  group.end = end;
  group.rawBytes += rawBytes;
  group.blobs.push(location);
  return true;
}
