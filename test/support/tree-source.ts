import { isUtf8 } from "node:buffer";
import { hash } from "node:crypto";
import fs from "node:fs";

import { encodeChunks } from "../../src/event/chunk-list.ts";
import type { DirectoryPut, EventBody, FilePut, LinkPut, PathMetadata } from "../../src/event/kinds.ts";
import { byteString, fsPath, joinPath, parentPath, TREE_ROOT, type TreePath } from "../../src/event/tree-path.ts";
import { chunkLength } from "../../src/tree/chunker.ts";
import { contentId } from "../../src/tree/content-id.ts";
import { metadataOf } from "../../src/tree/metadata.ts";
import { readXattrs } from "../../src/tree/xattrs.ts";

/** Content up to this many bytes goes with its file. */
const INLINE_BYTES = 64 * 1024;
const CHUNKS_A_RECORD = 8_000;

type Found = (FilePut | DirectoryPut | LinkPut) & { readonly signature: string };

/** What changed in a tree, as events. Removals are to come after the puts. */
export interface TreeChanges {
  readonly puts: readonly EventBody[];
  readonly removals: readonly EventBody[];
}

/** A real directory (or file) as events, by listing all of it: the simplest capture agent that tells the truth. */
export class TreeSource {
  readonly name: string;
  readonly root: string;
  readonly #inline: number;
  #known = new Map<TreePath, Found>();
  readonly #contents = new Set<string>();
  #put = 0;

  constructor(name: string, root: string, { inline = INLINE_BYTES }: { inline?: number } = {}) {
    this.name = name;
    this.root = root;
    this.#inline = inline;
  }

  /** What is different from the last call. Nothing may change meanwhile. */
  changes(): TreeChanges {
    const found = new Map<TreePath, Found>();
    this.#look(TREE_ROOT, found);
    const puts: EventBody[] = [];
    const removals: EventBody[] = [];
    const late = new Set<TreePath>();
    for (const [path, entry] of found) {
      const before = this.#known.get(path);
      if (before?.signature === entry.signature) continue;
      if (before?.kind !== entry.kind) late.add(parentPath(path));
      if (entry.kind === "dir.put") late.add(path);
      puts.push(...this.#bodiesOf(entry));
    }
    for (const [path, { kind }] of [...this.#known].toReversed()) {
      if (found.has(path)) continue;
      removals.push({ kind: kind === "dir.put" ? "dir.remove" : "file.remove", tree: this.name, path });
      late.add(parentPath(path));
    }
    for (const path of late) {
      const directory = found.get(path);
      if (directory?.kind === "dir.put") removals.push(directory);
    }
    this.#known = found;
    return { puts, removals };
  }

  #look(path: TreePath, found: Map<TreePath, Found>): void {
    const place = fsPath(this.root, path);
    const stat = fs.lstatSync(place, { bigint: true, throwIfNoEntry: false });
    if (!stat) return;
    const { name: tree } = this;
    const xattrs = stat.isSymbolicLink() || !isUtf8(place) ? undefined : readXattrs(place.toString());
    const metadata: PathMetadata = { ...metadataOf(stat), ...(xattrs ? { xattrs } : {}) };
    const seen = [stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs, stat.mode, stat.nlink].join();
    if (stat.isSymbolicLink()) {
      const target = fs.readlinkSync(place, { encoding: "buffer" });
      const { uid, gid, mtimeNs } = metadata;
      found.set(path, { kind: "link.put", tree, path, target: byteString(target), uid, gid, mtimeNs, signature: seen });
    } else if (stat.isDirectory()) {
      found.set(path, { kind: "dir.put", tree, path, ...metadata, signature: seen });
      for (const child of fs.readdirSync(place, { encoding: "buffer" }).sort(Buffer.compare)) {
        this.#look(joinPath(path, byteString(child)), found);
      }
    } else if (stat.isFile()) {
      const group = stat.nlink > 1n ? { group: Number(stat.ino) } : {};
      const content = { put: 0, parts: 0, size: Number(stat.size), hash: new Uint8Array(), chunks: new Uint8Array() };
      found.set(path, { kind: "file.put", tree, path, ...content, ...metadata, ...group, signature: seen });
    }
  }

  #bodiesOf(entry: Found): EventBody[] {
    if (entry.kind !== "file.put") return [entry];
    const data = fs.readFileSync(fsPath(this.root, entry.path));
    const bodies: EventBody[] = [];
    const chunks = [];
    for (let at = 0; at < data.length;) {
      const size = data.length <= this.#inline ? data.length : chunkLength(data, at, data.length);
      const piece = data.subarray(at, at + size);
      const id = contentId(piece);
      chunks.push({ id, size });
      const known = this.#contents.has(id);
      if (!known && data.length > this.#inline)
        bodies.push({ kind: "file.chunk", id: Buffer.from(id, "latin1"), data: piece });
      at += size;
    }
    const inline =
      data.length > 0 && data.length <= this.#inline && !this.#contents.has(contentId(data)) ? { data } : {};
    for (const { id } of chunks) this.#contents.add(id);
    this.#put += 1;
    const put = this.#put;
    let parts = 0;
    for (; chunks.length > CHUNKS_A_RECORD; parts += 1) {
      const list = encodeChunks(chunks.splice(0, CHUNKS_A_RECORD));
      bodies.push({ kind: "file.part", tree: this.name, put, sequence: parts, chunks: list });
    }
    const whole = hash("sha256", data, "buffer");
    const { signature: _, ...body } = entry;
    bodies.push({ ...body, put, parts, hash: whole, chunks: encodeChunks(chunks), ...inline });
    return bodies;
  }
}
