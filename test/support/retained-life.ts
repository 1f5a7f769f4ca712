import { createHash } from "node:crypto";

import type { KeepConfig } from "../../src/config/config.ts";
import { chunksOf, encodeChunks } from "../../src/event/chunk-list.ts";
import { encodeRecord, NO_PREVIOUS_HASH, recordHash } from "../../src/event/codec.ts";
import type { EventBody } from "../../src/event/kinds.ts";
import { epoch, offset, type Offset } from "../../src/event/positions.ts";
import { byteString, bytesOf, type TreePath } from "../../src/event/tree-path.ts";
import type { BaseManifest } from "../../src/repository/base.ts";
import type { BlobWriter } from "../../src/repository/blob-store.ts";
import { expireRepository } from "../../src/repository/expire/expire.ts";
import type { ExpireReport } from "../../src/repository/expire/report.ts";
import type { Repository } from "../../src/repository/repository.ts";
import type { ArchivedRecord } from "../../src/repository/segment.ts";
import { decodeTableBlock, encodeTableBlock } from "../../src/repository/table-block.ts";
import { readTree, TreeListCutter } from "../../src/repository/tree-list.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { FileEntry } from "../../src/tree/tree-index.ts";
import type { Random } from "./random.ts";

const LOG = "3f0c2c9e-8a7b-4e53-9d5e-0a6b1c2d3e4f";
const METADATA = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n };
const PAGE = 4096;
export const HOUR_MS = 3_600_000;
const { signal } = new AbortController();

/** A clock that goes when it is told to. */
export class SetClock implements Clock {
  nowMs: number;

  constructor(nowMs = Date.parse("2026-11-01T00:00:00Z")) {
    this.nowMs = nowMs;
  }

  readonly now = (): number => this.nowMs;
  readonly monotonic = (): number => this.nowMs;
}

/** Files, by path their content; and a page. */
interface State {
  readonly files: ReadonlyMap<string, Buffer>;
  readonly page: Buffer;
}

interface BaseOptions {
  readonly pause?: () => Promise<void>;
  readonly verified?: boolean;
}

/**
 * A primary, an archiver and a maker of bases in one, which remembers what was true at every offset. Contents are few, so
 * that they come, go and come again.
 */
export class RetainedLife {
  readonly clock: SetClock;
  readonly #random: Random;
  readonly #contents: readonly [Buffer, ...Buffer[]];
  /** What was true after each event; index = offset. */
  readonly #states: State[] = [{ files: new Map(), page: Buffer.alloc(PAGE) }];
  readonly #times = [0];
  #hash: Uint8Array = NO_PREVIOUS_HASH;
  #fresh: readonly string[] = [];
  #unwritten: ArchivedRecord[] = [];
  #contentsOfUnwritten = new Map<string, Buffer>();

  constructor(random: Random, clock: SetClock, { contentBytes = 3000 } = {}) {
    this.#random = random;
    this.clock = clock;
    const some = (): Buffer => random.bytes(contentBytes);
    this.#contents = [some(), ...Array.from({ length: 9 }, some)];
    this.#append({ kind: "genesis", set: "shop", logId: LOG, checksumSeed: 5n, createdBy: "test" }, this.state);
  }

  get state(): State {
    return this.#states.at(-1) ?? { files: new Map(), page: Buffer.alloc(PAGE) };
  }

  get head(): Offset {
    return offset(this.#states.length - 1);
  }

  /** Some changes of files, and of the page. */
  change(): void {
    for (let count = this.#random.integer(1, 4); count > 0; count -= 1) {
      const path = `f${this.#random.integer(0, 5)}`;
      const files = new Map(this.state.files);
      if (files.has(path) && this.#random.next() < 0.4) {
        files.delete(path);
        const body = { kind: "file.remove", tree: "uploads", path: path as TreePath } as const;
        this.#append(body, { ...this.state, files });
      } else this.#put(path, this.#random.pick(this.#contents), files);
    }
    if (this.#random.next() < 0.5)
      this.#append({ kind: "mark", name: `page ${this.head}` }, { ...this.state, page: this.#random.bytes(PAGE) });
  }

  #put(path: string, content: Buffer, files: Map<string, Buffer>): void {
    const id = idOf(content);
    // What a file holds already is not said again.
    if (![...files.values()].includes(content)) {
      this.#contentsOfUnwritten.set(id.toString("hex"), content);
      this.#append({ kind: "file.chunk", id, data: content }, this.state);
    }
    const size = content.length;
    const chunks = encodeChunks([{ id: byteString(id), size }]);
    const put = { kind: "file.put", tree: "uploads", path: path as TreePath, put: this.head + 1, parts: 0 } as const;
    files.set(path, content);
    this.#append({ ...put, ...METADATA, size, hash: id, chunks }, { ...this.state, files });
  }

  #append(body: EventBody, after: State): void {
    const position = { offset: offset(this.head + 1), timeMs: this.clock.nowMs, epoch: epoch(1) };
    const data = encodeRecord({ ...position, previousHash: this.#hash, body });
    this.#hash = recordHash(data);
    this.#unwritten.push({ stored: { data }, event: { ...position, bytes: data.length, body, consistent: true } });
    this.#states.push(after);
    this.#times.push(position.timeMs);
  }

  /** Into packs, then a segment. `pause`: in between. What fails is tried again with another writer. */
  async archive(repository: Repository, pause: () => Promise<void> = async () => undefined): Promise<void> {
    if (this.#unwritten.length === 0) return;
    await using writer = repository.blobs.writer(signal);
    for (const [id, content] of this.#contentsOfUnwritten) await writer.add("chunk", content, Buffer.from(id, "hex"));
    await pause();
    await writer.finish(signal);
    await repository.segments.write({ logId: LOG, records: this.#unwritten }, signal);
    this.#unwritten = [];
    this.#contentsOfUnwritten = new Map();
  }

  /** Five files with contents that were never there, most of which go the next time this is called: packs with little that stays. */
  putFresh(): void {
    const [, ...gone] = this.#fresh;
    for (const path of gone) {
      const files = new Map(this.state.files);
      files.delete(path);
      const body = { kind: "file.remove", tree: "uploads", path: path as TreePath } as const;
      this.#append(body, { ...this.state, files });
    }
    this.#fresh = Array.from({ length: 5 }, (_, at) => `fresh ${this.head}-${at}`);
    for (const path of this.#fresh) this.#put(path, this.#random.bytes(3000), new Map(this.state.files));
  }

  /** No file is left. */
  removeAll(): void {
    const files = new Map(this.state.files);
    for (const path of this.state.files.keys()) {
      files.delete(path);
      const body = { kind: "file.remove", tree: "uploads", path: path as TreePath } as const;
      this.#append(body, { ...this.state, files: new Map(files) });
    }
  }

  /** Every content is held by a file. */
  putAll(): void {
    this.#contents.forEach((content, at) => this.#put(`all ${at}`, content, new Map(this.state.files)));
  }

  /** Everything archived before. `pause`: before the manifest is written. Most are verified when nothing is said. */
  async base(repository: Repository, { pause, verified }: BaseOptions = {}): Promise<void> {
    await using lock = await repository.lock("shared", signal);
    await repository.blobs.refresh(signal);
    await this.archive(repository);
    await using writer = repository.blobs.writer(signal);
    const manifest = await this.#manifest(writer, repository);
    await pause?.();
    lock.requireHeld();
    const { uuid } = await repository.bases.write(manifest, signal);
    if (verified ?? this.#random.next() < 0.8) {
      const note = { base: uuid, atMs: this.clock.nowMs, how: "sample", host: "test" } as const;
      await repository.bases.markVerified(note, signal);
    }
  }

  async #manifest(writer: BlobWriter, { blobs }: Repository): Promise<BaseManifest> {
    const { files, page } = this.state;
    const cutter = new TreeListCutter();
    for (const [path, content] of [...files].toSorted(([one], [other]) => (one < other ? -1 : 1))) {
      const id = idOf(content);
      if (!blobs.has(id)) await writer.add("chunk", content, id);
      cutter.add(entryOf(path, content));
    }
    const list = cutter.end();
    const lists = list ? [await writer.add("list", list)] : [];
    const extent = await writer.add("extent", page);
    const table = await writer.add("table", encodeTableBlock({ extents: [extent], patches: [] }));
    await writer.finish(signal);
    const at = this.head;
    const sizes = { pageSize: PAGE, sizePages: 1, checksum: 1n, offset: at };
    return {
      offset: at,
      timeMs: this.#times.at(-1) ?? 0,
      epoch: epoch(1),
      logId: LOG,
      hash: this.#hash,
      checksumSeed: 5n,
      databases: [{ name: "app.db", ...sizes, tables: [table] }],
      trees: [{ name: "uploads", lists, count: files.size, bytes: 0 }],
      bytesNew: 1,
      bytesAll: 1,
      createdMs: this.clock.nowMs,
      createdBy: "test",
    };
  }

  /** @throws when the base is not what was true at its offset */
  async requireBase(repository: Repository, { offset: at, trees, databases }: BaseManifest): Promise<void> {
    const { files, page } = this.#stateAt(at);
    const found = new Map<string, Buffer>();
    for (const tree of trees) {
      for await (const entry of readTree(repository.blobs, tree, signal)) {
        if (entry.kind === "file") found.set(entry.path, await contentOf(repository, entry.chunkList));
      }
    }
    requireSame(found, files, `the base at offset ${at}`);
    const [table] = databases.flatMap(({ tables }) => tables);
    const [extent] = decodeTableBlock(await repository.blobs.read(table ?? new Uint8Array(32), signal)).extents;
    const stored = await repository.blobs.read(extent ?? new Uint8Array(32), signal);
    if (!page.equals(stored)) throw new Error(`the base at offset ${at} has another page`);
  }

  /** Every base that is listed, and every offset from the oldest one on from which segments lead to the newest. */
  async requireRetained(
    repository: Repository,
  ): Promise<{ readonly bases: number; readonly from: Offset | undefined }> {
    const infos = await repository.bases.list(signal);
    for (const info of infos) await this.requireBase(repository, await repository.bases.read(info, signal));
    const segments = await Array.fromAsync(repository.segments.list(signal));
    const start = infos.find(({ offset: at }) => leadsOn(segments, at));
    if (!start) return { bases: infos.length, from: undefined };
    let at = start.offset;
    const files = new Map(this.#stateAt(at).files);
    for (const segment of segments) {
      for await (const events of repository.segments.read(segment, { signal, after: at })) {
        for (const { head, event } of events) {
          if (head.offset <= at) continue;
          at = offset(at + 1);
          if (head.offset !== at) throw new Error(`offset ${head.offset} follows ${at - 1}`);
          const { body } = event();
          if (body.kind === "file.put") files.set(body.path, await contentOf(repository, body.chunks));
          if (body.kind === "file.remove") files.delete(body.path);
          requireSame(files, this.#stateAt(at).files, `offset ${at}`);
        }
      }
    }
    return { bases: infos.length, from: start.offset };
  }

  #stateAt(at: Offset): State {
    const state = this.#states[at];
    if (!state) throw new Error(`there is no offset ${at}`);
    return state;
  }

  expire(repository: Repository, rules: KeepConfig, confirm = true): Promise<ExpireReport> {
    return expireRepository(repository, { rules, confirm, rewrites: true, clock: this.clock, signal });
  }
}

function leadsOn(segments: readonly { readonly first: number; readonly last: number }[], at: Offset): boolean {
  let reached: number = at;
  for (const { first, last } of segments) {
    if (last <= reached) continue;
    if (first > reached + 1) return false;
    reached = last;
  }
  return true;
}

function entryOf(path: string, content: Buffer): FileEntry {
  const id = idOf(content);
  const chunkList = encodeChunks([{ id: byteString(id), size: content.length }]);
  const where = { tree: "uploads", path: path as TreePath, offset: offset(1), metadata: METADATA };
  return { kind: "file", ...where, size: content.length, hash: id, group: undefined, chunkList };
}

async function contentOf({ blobs }: Repository, chunkList: Uint8Array): Promise<Buffer> {
  const pieces = [];
  for (const { id } of chunksOf(chunkList)) pieces.push(await blobs.read(bytesOf(id), signal));
  return Buffer.concat(pieces);
}

function requireSame(found: ReadonlyMap<string, Buffer>, wanted: ReadonlyMap<string, Buffer>, where: string): void {
  const isSame = found.size === wanted.size && [...wanted].every(([path, content]) => found.get(path)?.equals(content));
  if (!isSame) throw new Error(`${where}: files are ${[...found.keys()].join()}, not ${[...wanted.keys()].join()}`);
}

function idOf(content: Buffer): Buffer {
  return createHash("sha256").update(content).digest();
}
