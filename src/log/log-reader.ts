import { decodeRecord, decodeRecordHeader, NO_PREVIOUS_HASH, recordHash } from "../event/codec.ts";
import type { EpochStart, EventBody, LogEvent } from "../event/kinds.ts";
import { BEFORE_FIRST, type Epoch, type Offset, offset } from "../event/positions.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { giveBack } from "../runtime/give-back.ts";
import { invariant } from "../runtime/invariant.ts";
import type { ChangeLog, LogBounds, ReadOptions, StoredRecord } from "./change-log.ts";
import { foreignError, gapError, recreatedError } from "./log-errors.ts";
import { RecordOpener } from "./open-record.ts";
import { lastOffsetWhere } from "./search-offset.ts";

/** Pages and contents compress well: a batch of records may be many times its size when decoded, so it is handed on in pieces. */
const DECODED_BYTES = 2 * 1024 * 1024;

export interface ReadEventsOptions extends ReadOptions {
  readonly after: Offset;
  /** SHA-256 of the record at `after`, when known: proves that the log is the one that was read before. */
  readonly previousHash?: Uint8Array;
  /** Ends after this offset. */
  readonly through?: Offset;
  /** Encrypted records whose key this host cannot open come as `sealed`. */
  readonly sealed?: boolean;
  /** Told of the last event of a batch before it is handed on, with the SHA-256 of its record. */
  readonly onBatch?: (at: Offset, hash: Uint8Array) => void;
  /** The caller has done with a batch when it asks for the next one: the memory of its page images is freed then. */
  readonly freed?: boolean;
}

/**
 * Events after `after`, decoded, in batches as the log hands them out; none is empty. Offsets are checked to be
 * contiguous and every record to name the hash of the one before it.
 *
 * @throws what ChangeLog.read throws, LOG_CORRUPT, LOG_RECREATED, RECORD_INVALID, RECORD_VERSION
 */
export async function* readEvents(log: ChangeLog, options: ReadEventsOptions): AsyncGenerator<readonly LogEvent[]> {
  const through = options.through ?? Number.MAX_SAFE_INTEGER;
  const chain = new HashChain(log, options);
  if (through <= options.after) return;
  for await (const stored of log.read(options.after, options)) {
    let events: LogEvent[] = [];
    let dataBytes = 0;
    let first = 0;
    for (const [index, record] of stored.entries()) {
      if (record.offset > through) break;
      const event = await chain.next(record);
      events.push(event);
      dataBytes += dataBytesOf(event.body);
      if (dataBytes < DECODED_BYTES) continue;
      chain.tell();
      yield events;
      if (options.freed) free(events, stored.slice(first, index + 1));
      first = index + 1;
      events = [];
      dataBytes = 0;
    }
    if (events.length > 0) {
      chain.tell();
      yield events;
    }
    if (options.freed) free(events, stored.slice(first));
    if (chain.position >= through) return;
  }
}

/** Frees page images, and the records. Not what a log's client library cut out of a larger buffer: others may be in it. */
export function free(events: readonly LogEvent[], records: readonly StoredRecord[]): void {
  for (const [index, { body }] of events.entries()) {
    const data = records[index]?.data;
    if (!data || !("pages" in body)) continue;
    const whole = data.byteLength === data.buffer.byteLength;
    const pages = body.pages[0]?.data.buffer;
    if (pages && (whole || pages !== data.buffer)) giveBack(pages);
    if (whole) giveBack(data.buffer);
  }
}

function dataBytesOf(body: LogEvent["body"]): number {
  if ("data" in body) return body.data?.length ?? 0;
  return "pages" in body && "pageSize" in body ? body.pages.length * body.pageSize : 0;
}

/** Follows the chain of record hashes. */
export class HashChain {
  readonly #log: ChangeLog;
  readonly #firstOffset: number;
  position: Offset;
  readonly #opener: RecordOpener;
  readonly #onBatch: ReadEventsOptions["onBatch"];
  #hash: Uint8Array | undefined;

  constructor(log: ChangeLog, options: ReadEventsOptions) {
    this.#log = log;
    this.#opener = new RecordOpener(log, options);
    this.#onBatch = options.onBatch;
    this.position = options.after;
    this.#firstOffset = options.after + 1;
    this.#hash = options.after === BEFORE_FIRST ? NO_PREVIOUS_HASH : options.previousHash;
  }

  /** Of the record at `position`. */
  get hash(): Uint8Array {
    invariant(this.#hash, "a record was read");
    return this.#hash;
  }

  async next(record: StoredRecord): Promise<LogEvent> {
    const expected = offset(this.position + 1);
    if (record.offset !== expected) throw gapError(this.#log.location, expected, record.offset);
    const header = this.#headerOf(record);
    if (header.offset !== expected)
      throw this.#corrupt(expected, `the record there says that it is offset ${header.offset}`);
    if (this.#hash && !equalBytes(header.previousHash, this.#hash)) throw await this.#broken(expected);
    const event = await this.#opener.open(record.data);
    this.#hash = recordHash(record.data);
    this.position = expected;
    return event;
  }

  tell(): void {
    if (this.#hash) this.#onBatch?.(this.position, this.#hash);
  }

  #headerOf({ offset: at, data }: StoredRecord): ReturnType<typeof decodeRecordHeader> {
    try {
      return decodeRecordHeader(data);
    } catch (error) {
      // Of a record that is damaged so far nobody else knows where it was.
      if (hasCode(error, "RECORD_INVALID")) throw this.#corrupt(at, `what is there is no ${error.message}`);
      throw error;
    }
  }

  /** The record before is not the one that was read: either it was damaged, or this is another log by now. */
  async #broken(at: Offset): Promise<TidemarkError> {
    const before = at === 1 ? undefined : await this.#log.get(offset(at - 1));
    const replaced =
      (at > 1 && at === this.#firstOffset) || (before && this.#hash && !equalBytes(recordHash(before), this.#hash));
    if (replaced)
      return recreatedError(this.#log.location, `offset ${at} does not follow the record that was read at ${at - 1}`);
    return this.#corrupt(at, `it does not follow the record at ${at - 1}: one of the two is damaged`);
  }

  #corrupt(at: Offset, evidence: string): TidemarkError {
    return new TidemarkError("LOG_CORRUPT", `${this.#log.location}: offset ${at}: ${evidence}`, {
      hint: "Check the disk of the log. Start a new log (move this one aside, remove the capture agent's state) and reseed the standbys.",
    });
  }
}

export interface LogIdentity {
  readonly logId: string;
  readonly set: string;
  readonly checksumSeed: bigint;
  /** Of the newest record. */
  readonly epoch: Epoch;
  /** UUID of the writer of that epoch; empty when its first record was trimmed. */
  readonly writer: string;
}

/** @throws LOG_EMPTY when nothing was captured yet, LOG_FOREIGN */
export async function readLogIdentity(log: ChangeLog, signal: AbortSignal): Promise<LogIdentity> {
  signal.throwIfAborted();
  const bounds = await log.bounds();
  // Also a log that was begun anew, and whose writer has not come to write yet.
  if (bounds.first > bounds.last) {
    throw new TidemarkError("LOG_EMPTY", `${log.location}: nothing was captured yet`, {
      hint: "Start `tidemark capture` (or `run`) for this set first.",
    });
  }
  const { logId, set, checksumSeed } = await readGenesis(log);
  const { epoch, start } = await currentEpoch(log, bounds);
  return { logId, set, checksumSeed, epoch, writer: start?.writer ?? "" };
}

export async function readGenesis(log: ChangeLog): Promise<Extract<EventBody, { kind: "genesis" }>> {
  const data = await log.get(offset(1));
  if (!data) {
    throw new TidemarkError("LOG_GAP", `${log.location}: its first record, which names the log, was removed`, {
      hint: "Somebody purged the log by hand. Move it aside, remove the capture agent's state, start capture again, and reseed the standbys.",
    });
  }
  const { body } = decodeRecord(data);
  if (body.kind !== "genesis")
    throw foreignError(log.location, `its first record is of kind ${body.kind}, not genesis`);
  return body;
}

export interface CurrentEpoch {
  readonly epoch: Epoch;
  /** The record that started it; undefined when it was trimmed, or its writer died before writing it. */
  readonly start: EpochStart | undefined;
  /** First record of it that the log still has, and its time. */
  readonly offset: Offset;
  readonly timeMs: number;
}

/** Epochs never fall along the log, so the record that started the newest one is found by bisection. */
export async function currentEpoch(log: ChangeLog, bounds: Omit<LogBounds, "bytes">): Promise<CurrentEpoch> {
  const newest = await headerAt(log, bounds.last);
  const before = await lastOffsetWhere(bounds, async (at) => {
    const data = await log.get(at);
    // What was trimmed meanwhile is older than all that is left.
    return !data || decodeRecordHeader(data).epoch < newest.epoch;
  });
  const begun = {
    epoch: newest.epoch,
    offset: offset(before + 1),
    timeMs: (await headerAt(log, offset(before + 1))).timeMs,
  };
  for (const at of [before + 1, before + 2]) {
    const data = at <= bounds.last ? await log.get(offset(at)) : undefined;
    const body = data && decodeRecord(data).body;
    if (body?.kind === "epoch") return { ...begun, start: body };
    if (body?.kind !== "genesis") break;
  }
  return { ...begun, start: undefined };
}

/** Every epoch of which the log has a record, the newest first. */
export async function* epochsOf(log: ChangeLog): AsyncGenerator<CurrentEpoch> {
  const { first, last } = await log.bounds();
  for (let end = last; end >= first && end > 0;) {
    const one = await currentEpoch(log, { first, last: end });
    yield one;
    end = offset(one.offset - 1);
  }
}

export async function headerAt(log: ChangeLog, at: Offset): Promise<ReturnType<typeof decodeRecordHeader>> {
  return decodeRecordHeader(await recordAt(log, at));
}

/** SHA-256 of the record at `at`; of nothing (zeros) for offset 0. @throws OFFSET_NOT_FOUND */
export async function hashAt(log: ChangeLog, at: Offset, signal: AbortSignal): Promise<Uint8Array> {
  signal.throwIfAborted();
  return at === BEFORE_FIRST ? NO_PREVIOUS_HASH : recordHash(await recordAt(log, at));
}

export async function recordAt(log: ChangeLog, at: Offset): Promise<Uint8Array> {
  const data = await log.get(at);
  if (data) return data;
  const { first, last } = await log.bounds();
  throw new TidemarkError(
    "OFFSET_NOT_FOUND",
    `${log.location}: offset ${at} is not there; it holds ${first} to ${last}`,
    {
      hint: "`tidemark log` lists what the log holds.",
    },
  );
}

export function equalBytes(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}
