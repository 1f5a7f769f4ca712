import fs, { type BigIntStats } from "node:fs";

import type { FilePut } from "../../event/kinds.ts";
import { fsPath, type TreePath } from "../../event/tree-path.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { errnoOf, TidemarkError } from "../../runtime/errors.ts";
import { sameStat } from "./entry.ts";
import type { LargeChunk } from "./large-file-protocol.ts";
import type { LargeRead } from "./large-files.ts";
import { type Content, openForRead, readDeleted, readWhole, unlessKnown, unread, WHOLE_BYTES } from "./read-file.ts";
import { standsAt } from "./real-place.ts";
import { type Found, sayFile, type Seen, statOf } from "./say-file.ts";
import type { TreeParts } from "./tree-parts.ts";
import { readPathXattrs } from "./tree-xattrs.ts";

/** A large file that was written a moment ago is still being written, more often than not. */
const STILL_MS = 100;
/** A file that does not stand still for so long gets a version of what was the same in two reads, ... */
const ENDLESS_MS = 10_000;
/** ... and then the next one after this long, or so many times as long as reading it takes. */
const ENDLESS_READ_SHARE = 10;

/** done: the log has it as it is. changed: look again. unreadable: told. */
export type Captured = "done" | "changed" | "unreadable";

/** A file that did not stand still. */
interface Restless {
  readonly sinceMs: number;
  /** When a read that may fail is worth its time. */
  dueMs: number;
}

/** A file that no name of the tree leads to. */
interface Deleted extends Pick<Seen, "again" | "onPut"> {
  /** Names it, without being open. */
  readonly fd: number;
  readonly isWanted: (stat: BigIntStats) => boolean;
}

interface Version {
  readonly stat: BigIntStats;
  readonly read: LargeRead;
  readonly xattrs: FilePut["xattrs"];
}

/** Captures the content of single files: one version of each, from beginning to end. */
export class FileCapture {
  readonly #parts: TreeParts;
  readonly #restless = new Map<TreePath, Restless>();
  /** Reads of large files go on behind a look that has ended. */
  readonly #reading = new Map<TreePath, { readonly size: number; readonly over: Promise<Captured> }>();
  #unstableReads = 0;

  constructor(parts: TreeParts) {
    this.#parts = parts;
  }

  /** Files that are not captured as they are because they did not stand still. */
  get unstableReads(): number {
    return this.#unstableReads;
  }

  get pendingBytes(): number {
    let bytes = 0;
    for (const { size } of this.#reading.values()) bytes += size;
    return bytes;
  }

  reads(path: TreePath): boolean {
    return this.#reading.has(path);
  }

  /** Resolves when no read goes on. */
  async idle(): Promise<void> {
    await Promise.all([...this.#reading.values()].map(({ over }) => over));
  }

  /**
   * `seen`: what lstat said just before, in this turn of the event loop. A small file is done when this returns.
   */
  capture(root: string, path: TreePath, seen: Seen): Captured | Promise<Captured> {
    const reading = this.#reading.get(path);
    if (reading) return reading.over;
    if (seen.stat.size <= WHOLE_BYTES && !this.#isEndless(path)) return this.#small(root, path, seen);
    return this.#begin(root, path, seen);
  }

  /** A file did not stand still although it was looked at again and again. */
  unsettled(path: TreePath): void {
    const { clock, problems } = this.#parts;
    const nowMs = clock.monotonic();
    const restless = this.#restless.get(path) ?? { sinceMs: nowMs, dueMs: nowMs + ENDLESS_MS };
    this.#restless.set(path, restless);
    this.#unstableReads += 1;
    if (nowMs - restless.sinceMs < ENDLESS_MS) return;
    problems.add(
      path,
      "does not stand still: versions of it are captured now and then, and it may be older in the log",
    );
  }

  /** It is gone, or something else. */
  forget(path: TreePath): void {
    this.#restless.delete(path);
  }

  #small(root: string, path: TreePath, seen: Seen): Captured {
    const { publisher } = this.#parts;
    const { early } = seen;
    if (early)
      return this.#putWhole(root, path, { seen, content: unlessKnown(early.content, publisher), xattrs: early.xattrs });
    const xattrs = readPathXattrs(root, path, this.#parts.problems);
    if (xattrs === "changed") return "changed";
    const read = readWhole(fsPath(root, path), seen.stat, publisher);
    if (read.kind === "changed") return "changed";
    if (read.kind === "unreadable") return this.#unreadable(path, read.error);
    return this.#putWhole(root, path, { seen, content: read.content, xattrs });
  }

  /**
   * Sends a small file that no name of the tree leads to any more. Its attributes are not to be had without a name. missed: it
   * cannot be read.
   */
  rescue(root: string, path: TreePath, { fd, isWanted, ...seen }: Deleted): "done" | "unwanted" | "missed" {
    const stat = fs.fstatSync(fd, { bigint: true });
    if (!isWanted(stat)) return "unwanted";
    if (stat.size > WHOLE_BYTES) return "missed";
    const read = readDeleted(fd, stat, this.#parts.publisher);
    if (read.kind !== "content") return "missed";
    const found = { seen: { ...seen, stat, atMs: 0 }, content: read.content, xattrs: undefined };
    return this.#putWhole(root, path, found) === "done" ? "done" : "missed";
  }

  #putWhole(root: string, path: TreePath, found: Found & { readonly content: Content }): Captured {
    for (const { id, data } of found.content.pieces) this.#parts.publisher.chunk(id, data);
    return this.#put(root, path, found);
  }

  #begin(root: string, path: TreePath, seen: Seen): Captured | Promise<Captured> {
    const isEndless = this.#isEndless(path);
    if (!isEndless && Number(seen.stat.ctimeNs / 1_000_000n) + STILL_MS > this.#parts.clock.now()) return "changed";
    const work = isEndless ? this.#readTwice(root, path, seen) : this.#readOnce(root, path, seen);
    const over = work
      .catch((error: unknown): Captured => this.#failed(path, error))
      .finally(() => this.#reading.delete(path));
    this.#reading.set(path, { size: Number(seen.stat.size), over });
    return over;
  }

  async #readOnce(root: string, path: TreePath, seen: Seen): Promise<Captured> {
    const version = await this.#read(root, path, 0);
    crashPoint("tree: large file read");
    return version ? this.#putIfStill(root, path, { version, seen }) : "changed";
  }

  /** What was the same in two reads, one after the other, was all there at one moment: between the two. */
  async #readTwice(root: string, path: TreePath, seen: Seen): Promise<Captured> {
    const { clock, problems } = this.#parts;
    const beganMs = clock.monotonic();
    const first = await this.#read(root, path, 0);
    const second = first && (await this.#read(root, path, first.read.size));
    const restless = this.#restless.get(path);
    const tookMs = clock.monotonic() - beganMs;
    if (restless) restless.dueMs = clock.monotonic() + Math.max(ENDLESS_MS, tookMs * ENDLESS_READ_SHARE);
    if (!first || !second) return "changed";
    if (this.#putIfStill(root, path, { version: second, seen }) === "done") return "done";
    const same = second.read.size === first.read.size ? second.read.hash : second.read.prefixHash;
    if (same && Buffer.compare(same, first.read.hash) === 0) {
      this.#put(root, path, {
        seen: { ...seen, stat: first.stat, atMs: 0 },
        content: first.read,
        xattrs: first.xattrs,
      });
    } else problems.add(path, "was another one in every read: no version of it could be captured for a while");
    return "changed";
  }

  /** Its chunks are on their way to the log when this resolves. Undefined: it became shorter, or another file. */
  async #read(root: string, path: TreePath, prefix: number): Promise<Version | undefined> {
    const { publisher, large, closed, problems } = this.#parts;
    const file = fsPath(root, path);
    const fd = openForRead(file);
    try {
      if (!standsAt(fd, file)) return undefined;
      const stat = fs.fstatSync(fd, { bigint: true });
      const xattrs = readPathXattrs(root, path, problems);
      if (!stat.isFile() || xattrs === "changed") return undefined;
      const onChunk = async ({ id, body }: LargeChunk): Promise<void> => {
        publisher.packedChunk(id, body);
        await publisher.room();
        crashPoint("tree: chunk said");
      };
      const read = await large.read(fd, { size: Number(stat.size), prefix, onChunk, signal: closed });
      return read && { stat, read, xattrs };
    } finally {
      fs.closeSync(fd);
    }
  }

  /** Looked at in the same turn of the event loop in which it is said. */
  #putIfStill(root: string, path: TreePath, { version, seen }: { version: Version; seen: Seen }): Captured {
    const atMs = this.#parts.clock.now();
    const now = statOf(fsPath(root, path));
    if (!now || !sameStat(now, version.stat)) return "changed";
    // Young when the read began means young now.
    return this.#put(root, path, { seen: { ...seen, stat: now, atMs }, content: version.read, xattrs: version.xattrs });
  }

  #put(root: string, path: TreePath, found: Found): Captured {
    if (!sayFile(this.#parts, { root, path }, found)) return "changed";
    if (found.seen.atMs > 0) {
      this.#restless.delete(path);
      this.#parts.problems.over(path);
    }
    return "done";
  }

  /** Due for a version of what was the same in two reads. */
  #isEndless(path: TreePath): boolean {
    const restless = this.#restless.get(path);
    return restless !== undefined && this.#parts.clock.monotonic() >= restless.dueMs;
  }

  #failed(path: TreePath, error: unknown): Captured {
    // What the log refuses fails whoever sends next, too.
    if (error instanceof TidemarkError) return "changed";
    const failure = unread(error);
    return failure.kind === "changed" ? "changed" : this.#unreadable(path, failure.error);
  }

  #unreadable(path: TreePath, error: unknown): Captured {
    const reason = errnoOf(error) ?? String(error);
    this.#parts.problems.add(path, `cannot be read (${reason}) and is not captured; it is tried again at every scan`);
    return "unreadable";
  }
}
