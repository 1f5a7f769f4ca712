import type { BigIntStats } from "node:fs";
import type { Worker } from "node:worker_threads";

import { CHUNK_ENTRY_BYTES } from "../../event/chunk-list.ts";
import { type ByteString, nameOf, parentPath, type TreePath } from "../../event/tree-path.ts";
import { giveBack, giveBackShare, shareOut } from "../../runtime/give-back.ts";
import { startThread, threadModule } from "../../runtime/start-thread.ts";
import {
  type EarlyBatch,
  type EarlyReaderOptions,
  type InodeKey,
  STAT_FIELDS,
  type ToEarlyReader,
} from "./early-read-protocol.ts";
import type { Content } from "./read-file.ts";

/** Directories whose files are read at once: the one that is compared, and the next ones. */
const MOST_DIRECTORIES = 4;
/** Answers of the thread that wait for their turn, of each directory. */
const AHEAD = 2;
const HASH_BYTES = 32;

export interface EarlyRead {
  readonly content: Content;
  readonly xattrs: ReadonlyMap<string, Uint8Array> | undefined;
}

export interface EarlyReadsOptions extends EarlyReaderOptions {
  /** Must not be opened. Another set when there are others. */
  readonly ownInodes: () => ReadonlySet<InodeKey>;
  /** Its code. */
  readonly thread?: URL;
  /** The thread is gone: everything is read in its turn. */
  readonly onFailure: (error: unknown) => void;
}

/**
 * Reads small files of directories in a thread, before a scan comes to them: the disk is waited for there, and content is
 * hashed there. What it brings counts only if the file stands as it did then, by what lstat says in its turn; and a file that
 * had changed just before is not read early. What was not read, is read in its turn.
 */
export class EarlyReads implements AsyncDisposable {
  readonly #options: EarlyReadsOptions;
  readonly #directories = new Map<TreePath, Directory>();
  #worker: Worker | undefined;
  #told: ReadonlySet<InodeKey> | undefined;
  #lastId = 0;
  #hasFailed = false;

  constructor(options: EarlyReadsOptions) {
    this.#options = options;
  }

  /** It will be compared soon. */
  want(directory: TreePath): void {
    if (this.#hasFailed || this.#directories.size >= MOST_DIRECTORIES || this.#directories.has(directory)) return;
    this.#worker ??= this.#start();
    const id = (this.#lastId += 1);
    this.#directories.set(directory, new Directory(id, () => this.#more(id)));
    this.#post({ type: "begin", id, directory });
    for (let i = 0; i < AHEAD; i += 1) this.#more(id);
  }

  /** Before a name of a directory is compared, in the order of names: undefined when nothing is to be waited for. */
  reach(path: TreePath): Promise<void> | undefined {
    const directory = this.#directories.get(parentPath(path));
    return directory?.reach(nameOf(path));
  }

  /** Undefined: it was not read, or is another one by now. Its memory is shared: `giveBackShare` of the content frees it. */
  take(path: TreePath, stat: BigIntStats): EarlyRead | undefined {
    return this.#directories.get(parentPath(path))?.take(nameOf(path), stat);
  }

  /** It was compared. */
  done(directory: TreePath): void {
    const done = this.#directories.get(directory);
    if (!done) return;
    this.#directories.delete(directory);
    done.end();
    this.#post({ type: "end", id: done.id });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#giveUp();
    await this.#worker?.terminate();
  }

  /** A directory may take minutes, and a database join the set meanwhile. */
  #more(id: number): void {
    const inodes = this.#options.ownInodes();
    if (inodes !== this.#told) this.#post({ type: "own", inodes });
    this.#told = inodes;
    this.#post({ type: "more", id });
  }

  #post(message: ToEarlyReader): void {
    if (!this.#hasFailed) this.#worker?.postMessage(message);
  }

  #start(): Worker {
    const { thread = threadModule(import.meta.url, "early-read-worker"), root, patterns, nameKey } = this.#options;
    return startThread<EarlyBatch>(thread, {
      what: "the thread that reads small files",
      workerData: { root, patterns, nameKey } satisfies EarlyReaderOptions,
      onMessage: (batch) => {
        for (const directory of this.#directories.values()) if (directory.id === batch.id) directory.came(batch);
      },
      onEnd: (error) => this.#fail(error),
    });
  }

  #fail(error: unknown): void {
    if (this.#hasFailed) return;
    this.#giveUp();
    this.#options.onFailure(error);
  }

  #giveUp(): void {
    this.#hasFailed = true;
    for (const directory of this.#directories.values()) directory.end();
    this.#directories.clear();
  }
}

/** What was read of one directory, as far as it came. */
class Directory {
  readonly id: number;
  readonly #more: () => void;
  readonly #waiting: EarlyBatch[] = [];
  #came: PromiseWithResolvers<void> | undefined;
  #current: EarlyBatch | undefined;
  /** Of the current batch: where each file's bytes begin. */
  readonly #begins = new Map<ByteString, { readonly index: number; readonly at: number }>();
  #isOver = false;

  constructor(id: number, more: () => void) {
    this.id = id;
    this.#more = more;
  }

  came(batch: EarlyBatch): void {
    this.#waiting.push(batch);
    this.#came?.resolve();
  }

  reach(name: ByteString): Promise<void> | undefined {
    while (!this.#reaches(name)) {
      const next = this.#waiting.shift();
      if (!next) return this.#untilCame(name);
      this.#turnTo(next);
    }
    return undefined;
  }

  take(name: ByteString, stat: BigIntStats): EarlyRead | undefined {
    const found = this.#begins.get(name);
    if (!found || !this.#current) return undefined;
    this.#begins.delete(name);
    const { stats, bytes, xattrs } = this.#current;
    const first = found.index * STAT_FIELDS.length;
    if (STAT_FIELDS.some((field, i) => stats[first + i] !== BigInt.asUintN(64, stat[field]))) {
      giveBackShare(bytes);
      return undefined;
    }
    const size = Number(stat.size);
    let at = found.at;
    const piece = (length: number): Uint8Array => bytes.subarray(at, (at += length));
    const content = {
      size,
      hash: piece(HASH_BYTES),
      chunks: piece(CHUNK_ENTRY_BYTES),
      inline: piece(size),
      pieces: [],
    };
    return { content, xattrs: xattrs.get(found.index) };
  }

  end(): void {
    this.#isOver = true;
    this.#leave();
    for (const batch of this.#waiting) giveBack(batch.bytes.buffer);
    this.#came?.resolve();
  }

  #reaches(name: ByteString): boolean {
    if (this.#isOver) return true;
    return this.#current !== undefined && (this.#current.through === undefined || name <= this.#current.through);
  }

  async #untilCame(name: ByteString): Promise<void> {
    this.#came = Promise.withResolvers();
    await this.#came.promise;
    this.#came = undefined;
    await this.reach(name);
  }

  /** What was not taken of the current answer is given back; what was, by whoever packs it. */
  #leave(): void {
    if (this.#current) for (const _name of this.#begins.keys()) giveBackShare(this.#current.bytes);
    this.#begins.clear();
  }

  #turnTo(next: EarlyBatch): void {
    this.#leave();
    this.#current = next;
    shareOut(next.bytes.buffer, next.names.length);
    const sizeAt = STAT_FIELDS.indexOf("size");
    let at = 0;
    next.names.forEach((name, index) => {
      this.#begins.set(name, { index, at });
      at += HASH_BYTES + CHUNK_ENTRY_BYTES + Number(next.stats[index * STAT_FIELDS.length + sizeAt]);
    });
    if (next.through !== undefined) this.#more();
  }
}
