import { chunksOf } from "../event/chunk-list.ts";
import { chunks, hash, i64, integer, linkTarget, oneOf, path, safe, u32, xattrs } from "../event/field-rules.ts";
import { offset as toOffset } from "../event/positions.ts";
import { RecordProblem } from "../event/record-error.ts";
import { bytesOf, type TreePath } from "../event/tree-path.ts";
import type { FileEntry, TreeEntry } from "../tree/tree-index.ts";
import type { ManifestTree } from "./base.ts";
import type { BlobStore } from "./blob-store.ts";
import { decodeMap, encodeMap, type MapFormat } from "./fields.ts";
import { objectError } from "./object-error.ts";

/**
 * Entries of a tree in the order of their paths: of each the length of its map (u32), then the map. They are cut where the
 * hash of a path says so, so that a stretch without changes is the same blob again, whatever changed before it.
 */
const CUT_EVERY = 1000;
const LEAST_ENTRIES = 64;
const MAX_LIST_BYTES = 4 * 1024 * 1024;
/** Chunk lists go on behind their entry: one of a file of a terabyte has 36 MB. */
const CHUNK_ENTRY_BYTES = 36;
const MAX_CHUNKS_BYTES = 30_000 * CHUNK_ENTRY_BYTES;
const LENGTH_BYTES = 4;

const place = { kind: oneOf("file", "dir", "link", "chunks") };
const owner = { uid: u32, gid: u32, mtimeNs: i64 };
const mode = integer(0, 0o7777);
const FORMATS: Readonly<Record<string, MapFormat>> = {
  file: {
    fields: { ...place, path, offset: safe, mode, ...owner, size: safe, hash, chunks, more: u32 },
    optional: { xattrs, group: safe },
  },
  dir: { fields: { ...place, path, offset: safe, mode, ...owner }, optional: { xattrs } },
  link: { fields: { ...place, path, offset: safe, target: linkTarget, ...owner } },
  chunks: { fields: { ...place, chunks } },
};
const ANY: MapFormat = { fields: place };
const CHUNKS: MapFormat = { fields: place, optional: { chunks } };

/** Cuts the entries of one tree, given in the order of their paths, into lists. */
export class TreeListCutter {
  #items: Uint8Array[] = [];
  #bytes = 0;
  #entries = 0;

  /** The lists that are complete with it. */
  add(entry: TreeEntry): Uint8Array[] {
    const lists: Uint8Array[] = [];
    for (const item of itemsOf(entry)) {
      if (this.#bytes + item.length > MAX_LIST_BYTES) lists.push(...this.#cut());
      this.#items.push(item);
      this.#bytes += item.length;
    }
    this.#entries += 1;
    if (this.#entries >= LEAST_ENTRIES && hashOfPath(entry.path) % CUT_EVERY === 0) lists.push(...this.#cut());
    return lists;
  }

  /** The last list; undefined when nothing is left. */
  end(): Uint8Array | undefined {
    return this.#cut()[0];
  }

  #cut(): Uint8Array[] {
    if (this.#items.length === 0) return [];
    const list = Buffer.concat(this.#items);
    this.#items = [];
    this.#bytes = 0;
    this.#entries = 0;
    return [list];
  }
}

function* itemsOf(entry: TreeEntry): Generator<Uint8Array> {
  const { kind, path: at, offset } = entry;
  if (entry.kind === "link") {
    const { target, uid, gid, mtimeNs } = entry;
    yield itemOf("link", { kind, path: at, offset, target, uid, gid, mtimeNs });
  } else if (entry.kind === "dir") yield itemOf("dir", { kind, path: at, offset, ...entry.metadata });
  else yield* itemsOfFile(entry);
}

function* itemsOfFile({
  path: at,
  offset,
  metadata,
  size,
  hash: whole,
  group,
  chunkList,
}: FileEntry): Generator<Uint8Array> {
  const more = Math.max(0, Math.ceil(chunkList.length / MAX_CHUNKS_BYTES) - 1);
  const first = chunkList.subarray(0, MAX_CHUNKS_BYTES);
  yield itemOf("file", { kind: "file", path: at, offset, ...metadata, size, hash: whole, chunks: first, more, group });
  for (let part = 1; part <= more; part += 1) {
    const piece = chunkList.subarray(part * MAX_CHUNKS_BYTES, (part + 1) * MAX_CHUNKS_BYTES);
    yield itemOf("chunks", { kind: "chunks", chunks: piece });
  }
}

function itemOf(kind: keyof typeof FORMATS, fields: object): Uint8Array {
  const map = encodeMap(FORMATS[kind] ?? ANY, fields);
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32BE(map.length);
  return Buffer.concat([length, map]);
}

/** FNV-1a. */
function hashOfPath(text: string): number {
  let mixed = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) mixed = Math.imul(mixed ^ text.charCodeAt(at), 0x01000193);
  return mixed >>> 0;
}

/** Reads the lists of one tree, in order: an entry may go on in the next one. */
export class TreeListReader {
  readonly #tree: string;
  #unfinished: { readonly entry: FileEntry; readonly pieces: Uint8Array[]; more: number } | undefined;
  #last: TreePath | undefined;

  constructor(tree: string) {
    this.#tree = tree;
  }

  /** @throws RecordProblem */
  *entries(list: Uint8Array): Generator<TreeEntry, void, void> {
    for (const map of mapsOf(list)) {
      const entry = this.#take(map);
      if (entry) yield entry;
    }
  }

  /** After the last list. @throws RecordProblem */
  end(): void {
    if (this.#unfinished) throw new RecordProblem("the lists end in the middle of a file's chunks");
  }

  #take(map: Uint8Array): TreeEntry | undefined {
    const { kind } = decodeMap(ANY, map) as { kind: TreeEntry["kind"] | "chunks" };
    const fields = decodeMap(FORMATS[kind] ?? ANY, map);
    if ((kind === "chunks") !== (this.#unfinished !== undefined))
      throw new RecordProblem(`an entry of kind ${kind} in the wrong place`);
    if (kind === "chunks") return this.#goOn(fields["chunks"] as Uint8Array);
    const entry = entryOf(this.#tree, kind, fields);
    if (this.#last !== undefined && entry.path <= this.#last) throw new RecordProblem("the entries are not in order");
    this.#last = entry.path;
    const more = kind === "file" ? (fields["more"] as number) : 0;
    if (entry.kind !== "file" || more === 0) return entry;
    this.#unfinished = { entry, pieces: [entry.chunkList], more };
    return undefined;
  }

  #goOn(piece: Uint8Array): TreeEntry | undefined {
    const unfinished = this.#unfinished;
    if (!unfinished) return undefined;
    unfinished.pieces.push(Uint8Array.from(piece));
    unfinished.more -= 1;
    if (unfinished.more > 0) return undefined;
    this.#unfinished = undefined;
    return { ...unfinished.entry, chunkList: Buffer.concat(unfinished.pieces) };
  }
}

function entryOf(tree: string, kind: TreeEntry["kind"], fields: Record<string, unknown>): TreeEntry {
  const { path: at, offset, mode: bits, uid, gid, mtimeNs, xattrs: given, ...own } = fields;
  const where = { tree, path: at as TreePath, offset: toOffset(offset as number) };
  const whose = { uid: uid as number, gid: gid as number, mtimeNs: mtimeNs as bigint };
  if (kind === "link") return { ...where, kind, target: own["target"] as LinkTarget, ...whose };
  const attributes = given === undefined ? {} : { xattrs: given as ReadonlyMap<string, Uint8Array> };
  const metadata = { mode: bits as number, ...whose, ...attributes };
  if (kind === "dir") return { ...where, kind, metadata };
  return {
    ...where,
    kind,
    metadata,
    size: own["size"] as number,
    hash: own["hash"] as Uint8Array,
    group: own["group"] as number | undefined,
    chunkList: own["chunks"] as Uint8Array,
  };
}

/** Names of the contents of files that a list names, whatever list it goes on from. @throws RecordProblem */
export function* contentsOfList(list: Uint8Array): Generator<Uint8Array> {
  for (const map of mapsOf(list)) {
    const { chunks: named } = decodeMap(CHUNKS, map);
    if (named instanceof Uint8Array) for (const { id } of chunksOf(named)) yield bytesOf(id);
  }
}

/** Each has its length before it. @throws RecordProblem */
function* mapsOf(list: Uint8Array): Generator<Uint8Array> {
  const view = new DataView(list.buffer, list.byteOffset, list.length);
  for (let at = 0; at < list.length;) {
    const left = list.length - at - LENGTH_BYTES;
    const length = left < 0 ? 0 : view.getUint32(at);
    if (length === 0 || length > left) throw new RecordProblem(`the list of entries ends in the middle, at byte ${at}`);
    yield list.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + length);
    at += LENGTH_BYTES + length;
  }
}

type LinkTarget = Extract<TreeEntry, { kind: "link" }>["target"];

/** All entries of a tree of a base, a directory before what is in it. @throws OBJECT_MISSING, OBJECT_CORRUPT, what the store throws */
export async function* readTree(
  blobs: BlobStore,
  { name, lists, count }: ManifestTree,
  signal: AbortSignal,
): AsyncGenerator<TreeEntry, void, void> {
  const reader = new TreeListReader(name);
  let found = 0;
  try {
    for await (const list of blobs.readMany(lists, signal)) {
      for (const entry of reader.entries(list)) {
        found += 1;
        yield entry;
      }
    }
    reader.end();
    if (found !== count) throw new RecordProblem(`${found} entries, the base says ${count}`);
  } catch (error) {
    throw objectError(error, { location: "list of the tree", name });
  }
}
