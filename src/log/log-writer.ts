import { randomBytes, randomUUID } from "node:crypto";
import { encodeRecord, NO_PREVIOUS_HASH, type PackedBody, recordHash } from "../event/codec.ts";
import type { EpochStart, EventBody } from "../event/kinds.ts";
import { BEFORE_FIRST, type Epoch, epoch, type Offset, offset } from "../event/positions.ts";
import type { Clock } from "../runtime/clock.ts";
import { hasCode } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import type { ChangeLog } from "./change-log.ts";
import { KeyInUse } from "./key-in-use.ts";
import type { OwnKey } from "../keys/data-key.ts";
import { primaryFaster, promotedElsewhere, takenBack } from "./log-errors.ts";
import { headOf, type KnownHead, type ResumedLog, resumeLog, type WriterIdentity } from "./resume-log.ts";

export type { KnownHead, WriterIdentity } from "./resume-log.ts";

/** Unacknowledged bytes at which `room` starts to wait. */
const MAX_PENDING_BYTES = 8 * 1024 * 1024;

export interface LogWriterOptions {
  readonly log: ChangeLog;
  readonly set: string;
  readonly identity: WriterIdentity;
  readonly known: KnownHead | undefined;
  readonly clock: Clock;
  /** Ends waiting for a log that is away; what was not acknowledged by then is rejected. */
  readonly signal: AbortSignal;
  /** A record of another writer younger than this means that it lives. */
  readonly foreignWriterGraceMs: number;
  readonly takeover: boolean;
  /** To become the writer after the epoch `from`, whose writer may be alive, and after no other one. */
  readonly promotion?: Promotion | undefined;
  /** Going on in its epoch, this writer offers it to this standby: nothing else may be appended then. */
  readonly successor?: string | undefined;
  /** To begin with in a log that goes on with a lost one, and holds nothing yet. */
  readonly begins?: OpenLog | undefined;
  /** Shown to people in the genesis record: `tidemark x.y.z`. */
  readonly createdBy?: string;
  /** With it every record is encrypted that can be. */
  readonly key?: OwnKey | undefined;
  readonly maxPendingBytes?: number;
}

export interface Promotion {
  readonly from: Epoch;
  /** Last offset whose state the standby has, when it is not to have the rest. */
  readonly contains: Offset | undefined;
  /** The writer before hands over with the record at this offset, which is an offer as long as it is the newest one. */
  readonly offeredAt?: Offset | undefined;
  /** By the monotonic clock: how long a primary that is alive and busy may be faster, record after record. */
  readonly untilMs?: number;
}

/** Where a chain of records stands: everything the next record depends on. */
export interface ChainPosition {
  readonly offset: Offset;
  readonly timeMs: number;
  readonly hash: Uint8Array;
}

/** A living writer that lands record after record in our place is not what is left of a dead one. */
const RESUME_ATTEMPTS = 5;

/** What a writer goes on with. */
export interface OpenLog {
  readonly logId: string;
  readonly checksumSeed: bigint;
  readonly epoch: Epoch;
  readonly at: ChainPosition;
}

/**
 * The one writer of a log: gives records their offset, time, epoch and hash, sends them without waiting for one another,
 * and knows what was acknowledged.
 */
export class LogWriter {
  readonly logId: string;
  readonly checksumSeed: bigint;
  readonly epoch: Epoch;
  /** Time of the last record before this writer's first, ms since 1970; 0 in a new log. */
  readonly openedAfterMs: number;
  readonly #options: LogWriterOptions;
  #key: KeyInUse | undefined;
  #predicted: ChainPosition;
  #acknowledged: ChainPosition;
  #pendingBytes = 0;
  #failure: Error | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #waiting: (() => void)[] = [];

  private constructor(options: LogWriterOptions, open: OpenLog) {
    this.#options = options;
    this.#key = options.key && new KeyInUse(options.key);
    this.logId = open.logId;
    this.checksumSeed = open.checksumSeed;
    this.epoch = open.epoch;
    this.openedAfterMs = open.at.timeMs;
    this.#predicted = open.at;
    this.#acknowledged = open.at;
  }

  /**
   * A new log gets a genesis record; in one that exists this writer goes on in its own epoch (with a
   * heartbeat) or starts the next.
   *
   * @throws LOG_FOREIGN (another set), LOG_RECREATED, LOG_REGRESSED (not the log that `known` remembers),
   *   LOG_FOREIGN_WRITER (another writer's newest record is younger than the grace time), FENCED, PROMOTED_ELSEWHERE
   */
  static async open(options: LogWriterOptions): Promise<LogWriter> {
    if (options.begins) return LogWriter.#beginAgain(options, options.begins);
    if (options.promotion) return LogWriter.#promote(options, options.promotion);
    const bounds = await options.log.bounds();
    return bounds.last === 0 && !options.known ? LogWriter.#begin(options) : LogWriter.#resume(options);
  }

  static async #begin(options: LogWriterOptions): Promise<LogWriter> {
    const { set, createdBy = "tidemark", identity } = options;
    const logId = randomUUID();
    const checksumSeed = randomBytes(8).readBigUInt64LE();
    const at: ChainPosition = { offset: BEFORE_FIRST, timeMs: 0, hash: NO_PREVIOUS_HASH };
    const writer = new LogWriter(options, { logId, checksumSeed, epoch: epoch(1), at });
    await writer.append([
      { kind: "genesis", set, logId, checksumSeed, createdBy },
      { kind: "epoch", epoch: epoch(1), ...identity, reason: "start" },
      ...writer.#announcement(),
    ]).acknowledged;
    return writer;
  }

  static async #beginAgain(options: LogWriterOptions, open: OpenLog): Promise<LogWriter> {
    const writer = new LogWriter(options, open);
    const start = { kind: "epoch", epoch: open.epoch, ...options.identity, reason: "new-log" } as const;
    await writer.append([start, ...writer.#announcement()]).acknowledged;
    return writer;
  }

  /**
   * Goes on in the log with a first record of our own, and only then is what came before it final: what a writer that was
   * killed (perhaps we, a moment ago) had under way may still land until its place is taken. When it does, look again.
   */
  static async #resume(options: LogWriterOptions): Promise<LogWriter> {
    let found = await resumeLog(options);
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await LogWriter.#takePlace(options, found);
      } catch (error) {
        if (!hasCode(error, "LOG_FOREIGN_WRITER") || attempt === RESUME_ATTEMPTS) throw error;
        const again = await resumeLog(options);
        // Somebody else began the epoch that we wanted to begin: one candidate wins, and it was not us.
        if (again.epoch !== found.epoch) throw error;
        found = again;
      }
    }
  }

  /** The record before ours may be anybody's, as long as the epoch is the one that was to be ended. */
  static async #promote(
    options: LogWriterOptions,
    { from, offeredAt, untilMs = Infinity }: Promotion,
  ): Promise<LogWriter> {
    const { location } = options.log;
    let found = await resumeLog(options);
    for (;;) {
      if (found.owner !== "us" && found.epoch !== from) throw promotedElsewhere(location, found.epoch);
      if (found.owner !== "us" && offeredAt !== undefined && found.head.offset !== offeredAt)
        throw takenBack(location, offeredAt);
      try {
        return await LogWriter.#takePlace(options, found);
      } catch (error) {
        if (!hasCode(error, "LOG_FOREIGN_WRITER", "FENCED")) throw error;
        if (options.clock.monotonic() >= untilMs) throw primaryFaster(location);
        const head = await headOf(options.log);
        if (head.epoch !== found.epoch) throw promotedElsewhere(location, head.epoch);
        found = { ...found, head };
      }
    }
  }

  static async #takePlace(options: LogWriterOptions, found: ResumedLog): Promise<LogWriter> {
    const { logId, checksumSeed, head, owner } = found;
    const { identity, successor } = options;
    const current = epoch(owner === "us" ? found.epoch : found.epoch + 1);
    const writer = new LogWriter(options, { logId, checksumSeed, epoch: current, at: head });
    const first: EventBody =
      owner === "us"
        ? { kind: "heartbeat", ...identity, ...(successor !== undefined && { successor }) }
        : { kind: "epoch", epoch: current, ...identity, ...reasonOf(options, head.offset) };
    await writer.append([first, ...writer.#announcement()]).acknowledged;
    return writer;
  }

  #announcement(): EventBody[] {
    return this.#key ? [this.#key.announcement] : [];
  }

  /** With which content is named; undefined without encryption. */
  get nameKey(): Uint8Array | undefined {
    return this.#key?.nameKey;
  }

  /** What is appended from now on is encrypted with this key. Resolves when the log has its announcement. */
  async changeKey(key: OwnKey): Promise<Offset> {
    this.#key = new KeyInUse(key);
    return this.append(this.#announcement()).acknowledged;
  }

  /** Predicted head: appended, perhaps not yet acknowledged. */
  get head(): Offset {
    return this.#predicted.offset;
  }

  get acknowledged(): ChainPosition {
    return this.#acknowledged;
  }

  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /**
   * Encodes and sends; offsets are known at once. The log keeps the order, so nobody need wait for the acknowledgement.
   * Before them, when it is time, the key is announced once more. After the first failure every later append rejects with the same error. When a body cannot be encoded this throws
   * (RECORD_TOO_LARGE) and nothing happened. `consistent`: the last of them is marked as a consistent point.
   */
  append(
    bodies: readonly (EventBody | PackedBody)[],
    { consistent = false }: { readonly consistent?: boolean } = {},
  ): {
    readonly offsets: readonly Offset[];
    readonly acknowledged: Promise<Offset>;
  } {
    invariant(bodies.length > 0, "append of nothing");
    const before = this.#predicted;
    const due = this.#key?.isDue(this.#options.clock.now(), bodies) ? this.#announcement() : [];
    const { records, positions, bytes } = this.#encode([...due, ...bodies], consistent);
    const end = positions.at(-1) ?? before;
    this.#predicted = end;
    this.#pendingBytes += bytes;
    const acknowledged = this.#send(records, before.offset).then(
      () => this.#settle(end, bytes),
      (error: unknown) => this.#fail(error, bytes),
    );
    // A caller that only uses flush() need not handle every acknowledgement.
    acknowledged.catch(() => {});
    this.#last = acknowledged;
    return { offsets: positions.slice(due.length).map((position) => position.offset), acknowledged };
  }

  /** Resolves when fewer than `limitBytes` (`maxPendingBytes`) are unacknowledged; rejects when the writer has failed. */
  async room(limitBytes?: number): Promise<void> {
    const limit = limitBytes ?? this.#options.maxPendingBytes ?? MAX_PENDING_BYTES;
    while (!this.#failure && this.#pendingBytes >= limit) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (this.#failure) throw this.#failure;
  }

  /** Resolves with the acknowledged head when everything appended so far is in the log. */
  async flush(): Promise<Offset> {
    await this.#last;
    if (this.#failure) throw this.#failure;
    return this.#acknowledged.offset;
  }

  #encode(
    bodies: readonly (EventBody | PackedBody)[],
    consistent: boolean,
  ): {
    records: Uint8Array[];
    positions: ChainPosition[];
    bytes: number;
  } {
    const records: Uint8Array[] = [];
    const positions: ChainPosition[] = [];
    let at = this.#predicted;
    let announced = this.#key?.announced;
    for (const body of bodies) {
      // Restores to a time bisect the log: time must not run backwards even when the clock does.
      const timeMs = Math.max(at.timeMs, Math.floor(this.#options.clock.now()));
      const next = offset(at.offset + 1);
      const data = encodeRecord({
        offset: next,
        epoch: this.epoch,
        timeMs,
        previousHash: at.hash,
        body,
        consistent: consistent && records.length === bodies.length - 1,
        encryption: announced?.encryption,
      });
      const { kind } = body;
      if (announced) announced = this.#key?.after(announced, { kind, offset: next, timeMs, bytes: data.length });
      at = { offset: next, timeMs, hash: recordHash(data) };
      records.push(data);
      positions.push(at);
    }
    if (announced) this.#key?.keep(announced);
    return { records, positions, bytes: records.reduce((sum, record) => sum + record.length, 0) };
  }

  async #send(records: readonly Uint8Array[], expectedHead: Offset): Promise<void> {
    if (this.#failure) throw this.#failure;
    await this.#options.log.append(records, expectedHead, this.#options.signal);
  }

  #settle(end: ChainPosition, bytes: number): Offset {
    this.#pendingBytes -= bytes;
    if (end.offset > this.#acknowledged.offset) this.#acknowledged = end;
    this.#wakeAll();
    return end.offset;
  }

  #fail(error: unknown, bytes: number): never {
    this.#pendingBytes -= bytes;
    this.#failure ??= error instanceof Error ? error : new Error(String(error));
    this.#wakeAll();
    throw this.#failure;
  }

  #wakeAll(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

function reasonOf({ takeover, promotion }: LogWriterOptions, head: Offset): Pick<EpochStart, "reason" | "contains"> {
  if (!promotion) return { reason: takeover ? "takeover" : "start" };
  const { contains, offeredAt } = promotion;
  const reason = offeredAt === undefined ? "promotion" : "switchover";
  return { reason, ...(contains !== undefined && contains < head ? { contains } : {}) };
}
