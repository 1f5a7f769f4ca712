import type Database from "better-sqlite3";
import { type FSWatcher, watch } from "node:fs";
import { type Offset, offset } from "../event/positions.ts";
import { Waker } from "../runtime/waker.ts";
import type { ReadOptions, StoredRecord } from "./change-log.ts";
import { bellFile, embeddedLocation, fileIdentity, logFile, storeBounds, toStoreError } from "./embedded-store.ts";
import { gapError, purgedError, recreatedError, regressedError } from "./log-errors.ts";

/** Small enough that reading one batch does not hold up the main thread for long. */
const BATCH_BYTES = 1 * 1024 * 1024;
/** The bell wakes us at once; this look is for file systems that do not announce changes, such as a shared disk. */
const LOOK_EVERY_MS = 1_000;

/** Wakes the readers of one directory: writers in this process call `wakeReaders`, others ring the bell file. */
const readersOf = new Map<string, Set<Waker>>();

export function wakeReaders(directory: string): void {
  for (const waker of readersOf.get(directory) ?? []) waker.wake();
}

export interface EmbeddedSource {
  readonly database: Database.Database;
  readonly directory: string;
  /** Identity of log.db when it was opened. */
  readonly identity: string | undefined;
}

export async function* readStored(
  source: EmbeddedSource,
  after: Offset,
  options: ReadOptions,
): AsyncGenerator<readonly StoredRecord[]> {
  const { signal, follow } = options;
  const { last } = storeBounds(source.database);
  if (after > last) throw regressedError(embeddedLocation(source.directory), after, last);
  using bell = follow ? listen(source.directory, signal) : undefined;
  let position = after;
  while (!signal.aborted && (follow || position < last)) {
    const batch = nextBatch(source, position, follow ? Number.MAX_SAFE_INTEGER : last);
    const newest = batch.at(-1);
    if (newest) {
      position = newest.offset;
      yield batch;
      continue;
    }
    assertStillThere(source, position);
    if (!follow) return;
    await bell?.waker.wait(LOOK_EVERY_MS);
  }
}

function nextBatch(source: EmbeddedSource, position: Offset, through: number): StoredRecord[] {
  const location = embeddedLocation(source.directory);
  const batch: StoredRecord[] = [];
  let bytes = 0;
  try {
    const rows = source.database.prepare<[number, number], StoredRecord>(
      "SELECT offset, data FROM record WHERE offset > ? AND offset <= ? ORDER BY offset",
    );
    for (const row of rows.iterate(position, through)) {
      const expected = offset(position + batch.length + 1);
      if (row.offset !== expected) throw gapError(location, expected, row.offset);
      batch.push({ offset: expected, data: row.data });
      bytes += row.data.length;
      if (bytes >= BATCH_BYTES) break;
    }
  } catch (error) {
    throw toStoreError(error, location);
  }
  return batch;
}

/** Nothing after `position`: is that the head, or did somebody take the log away under us? */
function assertStillThere(source: EmbeddedSource, position: Offset): void {
  const location = embeddedLocation(source.directory);
  if (fileIdentity(logFile(source.directory)) !== source.identity) {
    throw recreatedError(location, "log.db was replaced or removed while it was being read");
  }
  const { last } = storeBounds(source.database);
  if (last < position) throw regressedError(location, position, last);
  if (last > position && nextBatch(source, position, position + 1).length === 0)
    throw purgedError(location, position + 1, last);
}

interface Bell extends Disposable {
  readonly waker: Waker;
}

function listen(directory: string, signal: AbortSignal): Bell {
  const waker = new Waker();
  const wake = (): void => waker.wake();
  const readers = readersOf.get(directory) ?? new Set();
  readersOf.set(directory, readers.add(waker));
  signal.addEventListener("abort", wake);
  const watcher = watchBell(directory, wake);
  const stop = (): void => {
    readers.delete(waker);
    if (readers.size === 0) readersOf.delete(directory);
    signal.removeEventListener("abort", wake);
    watcher?.close();
  };
  return { waker, [Symbol.dispose]: stop };
}

/** undefined when it cannot be watched (no inotify watch left, no such file system): the slow look serves alone. */
function watchBell(directory: string, wake: () => void): FSWatcher | undefined {
  try {
    return watch(bellFile(directory), { persistent: false }, wake).on("error", wake);
  } catch {
    return undefined;
  }
}
