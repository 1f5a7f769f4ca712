import type { Logger } from "pino";

import { type Chunk, chunksOf, contentName } from "../../event/chunk-list.ts";
import { decodeRecordHeader } from "../../event/codec.ts";
import { FLAG } from "../../event/record-header.ts";
import type { LogEvent } from "../../event/kinds.ts";
import { BEFORE_FIRST, offset as toOffset, type Offset } from "../../event/positions.ts";
import { type ByteString, bytesOf } from "../../event/tree-path.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import type { BlobWriter } from "../../repository/blob-store.ts";
import type { Repository } from "../../repository/repository.ts";
import type { Clock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { type TidemarkError, toTidemarkError } from "../../runtime/errors.ts";
import { isContent } from "../../tree/content-id.ts";
import { ahead, interrupted, otherLog, wouldBePlain, wrongContent } from "./archive-errors.ts";
import type { ArchivePoint } from "./archive-status.ts";
import { KeptRecords } from "./kept-records.ts";
import { LogCursor, type ReadRecord } from "./log-cursor.ts";

/** A segment is written after this long, or this much, whichever is first. */
const SEGMENT_MS = 10_000;
const SEGMENT_BYTES = 8 * 1024 * 1024;
/** One of heartbeats alone may wait longer: nobody loses anything by it. */
const IDLE_SEGMENT_MS = 10 * 60_000;
/** What was gathered when the agent is stopped may still be written for so long. */
const LAST_SEGMENT_MS = 5000;

export interface ArchiverOptions {
  readonly repository: Repository;
  readonly log: ChangeLog;
  readonly logId: string;
  /** Finds content that came before. */
  readonly content: (chunk: Chunk) => Promise<Uint8Array | undefined>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A segment was stored, or the archive was found to be as new as the log. */
  readonly onProgress: () => void;
}

/** Where an archive goes on. */
interface Beginning {
  readonly after: Offset;
  readonly previousHash: Uint8Array | undefined;
}

/** Events that are read and not in a segment yet. */
class Gathered {
  readonly kept = new KeptRecords();
  bytes = 0;
  /** When it has waited long enough; monotonic. */
  dueMs = Infinity;
  worth = false;
}

/**
 * Brings the log into one repository: contents into packs, then the events that need them into a segment. How far it is
 * stands in the repository alone, so that any of its deaths, and a second archiver beside it, cost nothing but a repetition.
 */
export class Archiver {
  readonly #options: ArchiverOptions;
  readonly #waiting = new Set<PromiseWithResolvers<void> & { readonly offset: Offset }>();
  /** What ended the last `run`; none while one is under way. */
  #failure: TidemarkError | undefined;
  #archived: ArchivePoint | undefined;
  /** Of what was archived since the start, what is no heartbeat. */
  #changedBytes = 0;
  #bytes = 0;
  #chainAfter = BEFORE_FIRST;
  #cursor: LogCursor | undefined;
  #gathered = new Gathered();
  /** Names of contents that are stored with the next segment. */
  readonly #added = new Set<ByteString>();

  constructor(options: ArchiverOptions) {
    this.#options = options;
  }

  get archived(): ArchivePoint | undefined {
    return this.#archived;
  }

  /** Of all segments in the repository, as far as is known. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Its segments follow each other without a gap from the next offset on: a base before that leads nowhere. */
  get chainAfter(): Offset {
    return this.#chainAfter;
  }

  get changedBytes(): number {
    return this.#changedBytes;
  }

  /** Looks, by their names, at all segments that are there. `baseOffset`: of the newest base. */
  async survey(baseOffset: Offset, signal: AbortSignal): Promise<void> {
    let through = BEFORE_FIRST;
    for await (const { first, last, bytes } of this.#options.repository.segments.list(signal)) {
      if (first > through + 1) this.#chainAfter = toOffset(first - 1);
      through = toOffset(Math.max(through, last));
      this.#bytes += bytes;
      if (last > baseOffset) this.#changedBytes += bytes;
    }
  }

  /** After segments were removed. */
  async recount(signal: AbortSignal): Promise<void> {
    let stored = 0;
    for await (const { bytes } of this.#options.repository.segments.list(signal)) stored += bytes;
    this.#bytes = stored;
  }

  /** Whether it is known how far the archive is, and nothing is in its way. */
  get runs(): boolean {
    return this.#cursor !== undefined;
  }

  /** Resolves when `offset` is in a segment, which is not waited for longer than needed. @throws what ended `run`, INTERRUPTED */
  async through(offset: Offset, signal: AbortSignal): Promise<void> {
    if ((this.#archived?.offset ?? 0) >= offset) return;
    if (this.#failure) throw this.#failure;
    const waiter = { offset, ...Promise.withResolvers<void>() };
    const abort = (): void => waiter.reject(interrupted(this.#options.repository.location, offset));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    this.#waiting.add(waiter);
    this.#cursor?.wake();
    try {
      await waiter.promise;
    } finally {
      this.#waiting.delete(waiter);
      signal.removeEventListener("abort", abort);
    }
  }

  /** Follows the log until `signal` aborts. Begin again after what it throws. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      await this.#follow(signal);
    } catch (error) {
      this.#failure = toTidemarkError(error);
      for (const waiter of this.#waiting) waiter.reject(this.#failure);
      throw this.#failure;
    } finally {
      this.#cursor = undefined;
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { log, repository, onProgress } = this.#options;
    this.#gathered = new Gathered();
    const beginning = await this.#begin(signal);
    await using cursor = new LogCursor(log, { ...beginning, signal });
    this.#cursor = cursor;
    this.#failure = undefined;
    onProgress();
    // Not ended by the stop: what was gathered by then is stored.
    const storing = new AbortController();
    await using contents = repository.blobs.writer(storing.signal);
    while (!signal.aborted) {
      const read = await cursor.next(this.#waitMs());
      if (read === "end") break;
      if (read) await this.#gather(read, contents);
      if (this.#waitMs() <= 0) await this.#write(contents, signal);
    }
    if (this.#gathered.worth) await this.#write(contents, AbortSignal.timeout(LAST_SEGMENT_MS));
  }

  async #begin(signal: AbortSignal): Promise<Beginning> {
    const { repository, log, logger } = this.#options;
    const bounds = await log.bounds();
    const newest = await repository.segments.newest(signal);
    const fresh = { after: toOffset(bounds.first - 1), previousHash: undefined };
    if (!newest) return fresh;
    const { last: after, lastTimeMs, hashAfter } = newest;
    if (newest.logId !== this.#options.logId) throw otherLog(repository.location, newest.logId, log.location);
    if (after > bounds.last) throw ahead(repository.location, after, bounds.last);
    this.#archived = { offset: after, atMs: lastTimeMs };
    if (after + 1 >= bounds.first) return { after, previousHash: hashAfter };
    logger.warn(
      { archived: after, first: bounds.first },
      `${repository.location}: the log was trimmed up to offset ${bounds.first - 1}, the archive ends at ${after}; it begins anew with the next base`,
    );
    this.#chainAfter = fresh.after;
    return fresh;
  }

  /** Until the next segment is due; 0 when it is. */
  #waitMs(): number {
    const { kept, dueMs, bytes } = this.#gathered;
    const last = kept.records.at(-1)?.event.offset ?? BEFORE_FIRST;
    if (last === BEFORE_FIRST) return Infinity;
    const wanted = [...this.#waiting].some(({ offset }) => offset <= last);
    return wanted || bytes >= SEGMENT_BYTES ? 0 : Math.max(0, dueMs - this.#options.clock.monotonic());
  }

  async #gather(read: ReadRecord, contents: BlobWriter): Promise<void> {
    const { log, repository } = this.#options;
    const gathered = this.#gathered;
    const { event } = read;
    if (!repository.config.encrypted && isSealed(read)) throw wouldBePlain(repository.location);
    const nowMs = this.#options.clock.monotonic();
    const worth = event.body.kind !== "heartbeat";
    gathered.kept.add(read);
    gathered.bytes += rawBytesOf(event);
    gathered.worth ||= worth;
    gathered.dueMs = Math.min(gathered.dueMs, nowMs + (worth ? SEGMENT_MS : IDLE_SEGMENT_MS));
    const { body } = event;
    if ((body.kind === "file.chunk" || body.kind === "file.put") && body.data) {
      const name = contentName(body);
      if (!isContent(name, body.data, log.keys?.nameKeys ?? [])) throw wrongContent(log.location, event.offset);
      await contents.add("chunk", body.data, bytesOf(name));
      this.#added.add(name);
    } else if (body.kind === "file.put" || body.kind === "file.part") await this.#require(body.chunks, contents);
  }

  /**
   * Contents that the log said before this repository began, or that it has marked for deletion since: a segment names
   * nothing that is not there.
   */
  async #require(chunks: Uint8Array, contents: BlobWriter): Promise<void> {
    const { repository, content, logger } = this.#options;
    for (const chunk of chunksOf(chunks)) {
      const id = bytesOf(chunk.id);
      if (this.#added.has(chunk.id) || repository.blobs.has(id)) continue;
      const data = await content(chunk);
      this.#added.add(chunk.id);
      if (data) await contents.add("chunk", data, id);
      else
        logger.error(
          { chunk: id.toString("hex") },
          `${repository.location}: a content that the log names is nowhere any more`,
        );
    }
  }

  /** Contents first: a segment never names one that is not durable. */
  async #write(contents: BlobWriter, signal: AbortSignal): Promise<void> {
    const { repository, logId, onProgress } = this.#options;
    const { kept, worth } = this.#gathered;
    const { records } = kept;
    const newest = records.at(-1)?.event;
    if (!newest) return;
    await contents.finish(signal);
    crashPoint("archive: contents stored");
    this.#added.clear();
    const written = await repository.segments.write({ logId, records }, signal);
    for (const { bytes } of written) this.#bytes += bytes;
    kept.free();
    if (worth) this.#changedBytes += records.reduce((sum, { event }) => sum + event.bytes, 0);
    this.#gathered = new Gathered();
    this.#archived = { offset: newest.offset, atMs: newest.timeMs };
    for (const waiter of this.#waiting) if (waiter.offset <= newest.offset) waiter.resolve();
    onProgress();
  }
}

function isSealed({ event, stored }: ReadRecord): boolean {
  return event.body.kind === "key" || (decodeRecordHeader(stored.data).flags & FLAG.encrypted) !== 0;
}

function rawBytesOf({ body, bytes }: LogEvent): number {
  return "pages" in body && "pageSize" in body ? body.pages.length * body.pageSize : bytes;
}
