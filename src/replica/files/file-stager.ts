import { createHash, type Hash } from "node:crypto";
import fs, { type BigIntStats } from "node:fs";
import path from "node:path";

import { chunkCount, CONTENT_ID_BYTES } from "../../event/chunk-list.ts";
import { shownPath, type TreePath } from "../../event/tree-path.ts";
import { syncDescriptor, syncFile, syncFileSystem } from "../../runtime/durable-directory.ts";
import { errnoOf, hasCode, TidemarkError } from "../../runtime/errors.ts";
import { writeFully } from "../../sqlite/write-fully.ts";
import { applyMetadata } from "../../tree/metadata.ts";
import { chunksOfEntry, type FileEntry } from "../../tree/tree-index.ts";
import { type ChunkSource, OldVersion } from "./chunk-source.ts";
import type { FilesState } from "./files-state.ts";
import type { Refusals } from "./refusals.ts";
import { standbyPath } from "./standby-path.ts";
import type { FileBefore, Readiness, Touched } from "./touched-places.ts";
import type { TreeReader } from "./tree-reader.ts";

const NOTHING = Buffer.alloc(512 * 1024);
/** Times are set as doubles, which are right to a quarter of a microsecond. */
const TIME_ERROR_NS = 1000n;

export interface FileStagerOptions {
  readonly state: FilesState;
  readonly chunks: ChunkSource;
  readonly reader: TreeReader;
  readonly refusals: Refusals;
  /** Directory for staged files. */
  readonly stage: string;
}

/** Makes new versions of files ready, out of the way of readers: content proved, metadata set. */
export class FileStager {
  readonly #options: FileStagerOptions;
  #last = 0;
  #unsynced = false;

  constructor(options: FileStagerOptions) {
    this.#options = options;
    this.clear();
  }

  pathOf(number: number): string {
    return path.join(this.#options.stage, String(number));
  }

  /** Removes whatever is staged. */
  clear(): void {
    const { stage } = this.#options;
    for (const name of fs.readdirSync(stage)) fs.rmSync(path.join(stage, name), { force: true });
  }

  /**
   * Gets a touched file ready, if it is not. `durable`: its content as well; otherwise `sync` must come before it is
   * placed. May be called again after it threw. @throws what ChunkSource.get throws, LOG_CORRUPT
   */
  async prepare(place: Touched, entry: FileEntry, { durable }: { durable: boolean }): Promise<Readiness> {
    if (place.ready) return place.ready;
    const { touched } = this.#options.state;
    if (place.stale !== undefined) fs.rmSync(this.pathOf(place.stale), { force: true });
    const ready = this.#inPlace(place, entry) ?? (await this.#stage(place, entry, durable));
    touched.setReady(place, ready, entry.offset);
    return ready;
  }

  /** Stages the content, whatever else would do. */
  async stageAnyway(place: Touched, entry: FileEntry): Promise<number> {
    return (await this.#stage(place, entry, true)).number;
  }

  /** What was staged without being made durable is durable then. */
  async sync(): Promise<void> {
    if (!this.#unsynced) return;
    const { stage } = this.#options;
    if (!(await syncFileSystem(stage))) for (const name of fs.readdirSync(stage)) syncFile(path.join(stage, name));
    this.#unsynced = false;
  }

  /** A member of the file's group, other than itself, that has the right content, or will have it. */
  twinOf(place: Touched, entry: FileEntry, isReady: (ready: Readiness) => boolean): TreePath | undefined {
    const { index, touched } = this.#options.state;
    const { tree, path: own } = place;
    if (entry.group === undefined) return undefined;
    return index.members(tree, entry.group).find((member) => {
      if (member === own) return false;
      const other = touched.get({ tree, path: member });
      if (other) return other.ready !== undefined && isReady(other.ready);
      const known = index.entry(tree, member);
      return (
        known?.kind === "file" && this.#standing(place.tree, member, { ...known, mtimeNs: known.metadata.mtimeNs })
      );
    });
  }

  /** Whether nothing needs to be written: the content stands there, or is another name's. */
  #inPlace(place: Touched, entry: FileEntry): Readiness | undefined {
    if (this.twinOf(place, entry, ({ kind }) => kind !== "name") !== undefined) return { kind: "name" };
    const before = place.wasFile ? this.#options.state.touched.before(place) : undefined;
    if (!before || Buffer.compare(before.hash, entry.hash) !== 0) return undefined;
    const stat = this.#standing(place.tree, place.path, before);
    // Of a name that leaves its file the others must not be changed.
    return stat && (stat.nlink === 1n || before.group === entry.group) ? { kind: "metadata" } : undefined;
  }

  /** Of a file that looks as it was left; its content is looked at by the scrub. */
  #standing(tree: string, at: TreePath, known: Pick<FileBefore, "size" | "mtimeNs">): BigIntStats | undefined {
    const stat = this.#options.reader.stat(standbyPath(tree, at));
    const asLeft = stat?.isFile() && stat.size === BigInt(known.size) && sameTime(stat.mtimeNs, known.mtimeNs);
    return asLeft ? stat : undefined;
  }

  async #stage(place: Touched, entry: FileEntry, durable: boolean): Promise<{ kind: "staged"; number: number }> {
    const number = (this.#last += 1);
    const file = this.pathOf(number);
    try {
      const fd = fs.openSync(file, "wx", 0o600);
      try {
        await this.#write(fd, place, entry);
        this.#options.refusals.note(standbyPath(place.tree, place.path), applyMetadata(file, entry.metadata));
        if (durable) await syncDescriptor(fd);
        else this.#unsynced = true;
      } finally {
        fs.closeSync(fd);
      }
      return { kind: "staged", number };
    } catch (error) {
      fs.rmSync(file, { force: true });
      throw error;
    }
  }

  async #write(fd: number, place: Touched, entry: FileEntry): Promise<void> {
    const { chunks } = this.#options;
    const old = this.#oldVersion(place);
    // Every chunk is proved; one chunk of the same name is the whole.
    const isOne = chunkCount(entry.chunkList) === 1 && Buffer.compare(onlyName(entry), entry.hash) === 0;
    const hash = isOne ? undefined : createHash("sha256");
    try {
      let position = 0;
      for (const chunk of chunksOfEntry(entry)) {
        const data = await chunks.get(chunk, old);
        hash?.update(data);
        // A hole reads as zeros and takes no room.
        const hole = isNothing(data);
        if (!hole) writeFully(fd, data, position);
        position += data.length;
        if (hole) fs.ftruncateSync(fd, position);
      }
    } finally {
      old?.close();
    }
    if (hash) requireHash(place, entry, hash);
  }

  #oldVersion(place: Touched): OldVersion | undefined {
    const before = place.wasFile ? this.#options.state.touched.before(place) : undefined;
    if (!before || before.size === 0) return undefined;
    try {
      return new OldVersion(
        this.#options.reader.openFile(standbyPath(place.tree, place.path)),
        before.chunkList,
        this.#options.chunks.nameKeys,
      );
    } catch (error) {
      // Not there, not ours, or not to be read: the log has it, too.
      if (errnoOf(error) !== undefined || hasCode(error, "PATH_UNSAFE")) return undefined;
      throw error;
    }
  }
}

/** Whether a time on disk is the one that was to be set. */
export function sameTime(foundNs: bigint, knownNs: bigint): boolean {
  const apartNs = foundNs - knownNs;
  // Before 1970 times are set to the millisecond.
  const allowedNs = knownNs < 0n ? 1_000_000n : TIME_ERROR_NS;
  return apartNs <= allowedNs && -apartNs <= allowedNs;
}

function isNothing(data: Uint8Array): boolean {
  return data[0] === 0 && data.length <= NOTHING.length && NOTHING.compare(data, 0, data.length, 0, data.length) === 0;
}

function onlyName({ chunkList }: FileEntry): Uint8Array {
  return chunkList.subarray(0, CONTENT_ID_BYTES);
}

function requireHash(place: Touched, entry: FileEntry, made: Hash): void {
  if (Buffer.compare(made.digest(), entry.hash) === 0) return;
  throw new TidemarkError(
    "LOG_CORRUPT",
    `offset ${entry.offset}: the chunks of ${place.tree}/${shownPath(place.path)} do not add up to the file's hash`,
    { hint: "The writer of the log is at fault, or its memory; report it. The standby keeps what it proved before." },
  );
}
