import { isUtf8 } from "node:buffer";
import fs from "node:fs";
import { parentPort, workerData } from "node:worker_threads";

import { type ByteString, fsPath, joinPath, type TreePath } from "../../event/tree-path.ts";
import { systemClock } from "../../runtime/clock.ts";
import { invariant } from "../../runtime/invariant.ts";
import { readXattrs } from "../../tree/xattrs.ts";
import {
  type EarlyBatch,
  type EarlyReaderOptions,
  type InodeKey,
  STAT_FIELDS,
  type ToEarlyReader,
} from "./early-read-protocol.ts";
import { isYoung } from "./entry.ts";
import { INLINE_BYTES, readWhole } from "./read-file.ts";
import { namesIn } from "./real-place.ts";
import { Selection } from "./selection.ts";
import { isWithinLimit } from "./tree-xattrs.ts";

/**
 * A thread that reads small files before they are looked at. It must never open a file that this process has open as a database,
 * or is about to: to close it again would drop SQLite's locks. Those that are known are told; and what SQLite locks has a size
 * that is a multiple of 512.
 */
const BATCH_FILES = 64;
const BATCH_BYTES = 256 * 1024;
const SECTOR_BYTES = 512n;
const SQLITE_SUFFIX = /-(?:wal|shm|journal)$/;

invariant(parentPort, "early-read-worker runs in a worker thread");
const port = parentPort;
const { root, patterns, nameKey } = workerData as EarlyReaderOptions;
const selection = new Selection(patterns);
const jobs = new Map<number, Job>();
let own: ReadonlySet<InodeKey> = new Set();

interface EarlyFile {
  readonly name: ByteString;
  readonly stat: readonly bigint[];
  readonly pieces: readonly Uint8Array[];
  readonly xattrs: ReadonlyMap<string, Uint8Array> | undefined;
}

class Job {
  readonly #directory: TreePath;
  readonly #names: readonly ByteString[];
  #at = 0;

  constructor(directory: TreePath) {
    this.#directory = directory;
    this.#names = sortedNames(fsPath(root, directory));
  }

  next(): Omit<EarlyBatch, "id"> {
    const files: EarlyFile[] = [];
    for (let bytes = 0; this.#at < this.#names.length && files.length < BATCH_FILES && bytes < BATCH_BYTES;) {
      const file = this.#read(this.#names[this.#at] ?? "");
      this.#at += 1;
      if (!file) continue;
      files.push(file);
      bytes += file.pieces.reduce((sum, piece) => sum + piece.length, 0);
    }
    return batchOf(files, this.#at < this.#names.length ? this.#names[this.#at - 1] : undefined);
  }

  /** Undefined: it is read in its turn, if at all; whatever is wrong with it is told then. */
  #read(name: ByteString): EarlyFile | undefined {
    const path = joinPath(this.#directory, name);
    const file = fsPath(root, path);
    const nowMs = systemClock.now();
    try {
      if (selection.of(path, false) !== "take") return undefined;
      const stat = fs.lstatSync(file, { bigint: true });
      if (!stat.isFile() || stat.size > INLINE_BYTES || isYoung(stat, nowMs)) return undefined;
      if (stat.size % SECTOR_BYTES === 0n || SQLITE_SUFFIX.test(name) || own.has(`${stat.dev}:${stat.ino}`))
        return undefined;
      const xattrs = isUtf8(file) ? readXattrs(file.toString()) : undefined;
      if (xattrs && !isWithinLimit(xattrs)) return undefined;
      const read = readWhole(file, stat, { nameKey, knows: () => false });
      if (read.kind !== "content" || !read.content.inline) return undefined;
      const { hash, chunks, inline } = read.content;
      return { name, stat: STAT_FIELDS.map((field) => stat[field]), pieces: [hash, chunks, inline], xattrs };
    } catch {
      return undefined;
    }
  }
}

/** In the order in which they are compared. */
function sortedNames(directory: Buffer): ByteString[] {
  try {
    return (namesIn(directory) ?? []).sort();
  } catch {
    return [];
  }
}

function batchOf(files: readonly EarlyFile[], through: ByteString | undefined): Omit<EarlyBatch, "id"> {
  const pieces = files.flatMap((file) => file.pieces);
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  const xattrs = new Map(files.flatMap((file, index) => (file.xattrs ? [[index, file.xattrs] as const] : [])));
  return {
    through,
    names: files.map(({ name }) => name),
    stats: BigUint64Array.from(files.flatMap(({ stat }) => stat)),
    bytes,
    xattrs,
  };
}

port.on("message", (message: ToEarlyReader) => {
  switch (message.type) {
    case "own":
      own = message.inodes;
      break;
    case "begin":
      jobs.set(message.id, new Job(message.directory));
      break;
    case "end":
      jobs.delete(message.id);
      break;
    case "more": {
      const job = jobs.get(message.id);
      if (!job) break;
      const batch: EarlyBatch = { id: message.id, ...job.next() };
      port.postMessage(batch, [batch.stats.buffer, batch.bytes.buffer]);
      break;
    }
    default:
      message satisfies never;
  }
});
