import { kindOfCode } from "../event/body-fields.ts";
import { decodeRecord, decodeRecordHeader } from "../event/codec.ts";
import type { LogEvent } from "../event/kinds.ts";
import { type Offset, offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { readEvents, readGenesis, recordAt } from "../log/log-reader.ts";
import { dataKeyOf } from "../log/open-record.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import type { RestorableRange } from "./coverage.ts";
import {
  beforeFirst,
  endedEarly,
  type EventRange,
  type History,
  type HistoryBounds,
  type ListedMark,
  requireGoingOn,
  type ScannedEvent,
} from "./history.ts";

/** What a log still holds. */
export class LogHistory implements History {
  readonly #log: ChangeLog;

  constructor(log: ChangeLog) {
    this.#log = log;
  }

  get location(): string {
    return this.#log.location;
  }

  get nameKeys(): readonly Uint8Array[] {
    return this.#log.keys?.nameKeys ?? [];
  }

  bounds(): Promise<HistoryBounds> {
    return this.#log.bounds();
  }

  async ranges(): Promise<readonly RestorableRange[]> {
    const { first, last } = await this.bounds();
    return first > last ? [] : [{ first, last }];
  }

  async seed(): Promise<bigint> {
    if ((await this.bounds()).last > 0) return (await readGenesis(this.#log)).checksumSeed;
    throw new TidemarkError("LOG_EMPTY", `${this.location}: nothing was captured yet, so there is nothing to restore`, {
      hint: "Start `tidemark capture` (or `run`) for this set first.",
    });
  }

  /** Undefined: nothing was captured yet. */
  async logId(): Promise<string | undefined> {
    return (await this.bounds()).last > 0 ? (await readGenesis(this.#log)).logId : undefined;
  }

  async timeAt(at: Offset): Promise<number> {
    const record = await recordAt(this.#log, at);
    return this.#placed(at, () => decodeRecordHeader(record).timeMs);
  }

  locate(timeMs: number): Promise<Offset> {
    return this.#log.locate(timeMs);
  }

  async consistentAfter(): Promise<Offset> {
    return beforeFirst(await this.bounds());
  }

  /** Reads the whole log, its headers only. */
  async marks(signal: AbortSignal): Promise<readonly ListedMark[]> {
    const bounds = await this.bounds();
    const marks: ListedMark[] = [];
    for await (const { head, event } of this.scan({ after: beforeFirst(bounds), through: bounds.last, signal })) {
      if (kindOfCode(head.kind) !== "mark") continue;
      const { body, offset: at, timeMs } = event();
      if (body.kind === "mark") marks.push({ name: body.name, offset: at, timeMs });
    }
    return marks;
  }

  async *scan({ after, through, signal }: EventRange): AsyncGenerator<ScannedEvent> {
    if (through <= after) return;
    let position = after;
    for await (const batch of untilTrimmed(this.#log.read(after, { signal, follow: false }))) {
      for (const { data } of batch) {
        const at = offset(position + 1);
        position = at;
        const head = this.#placed(at, () => decodeRecordHeader(data));
        const dataKey = await dataKeyOf(this.#log, data);
        yield { head, event: () => this.#placed(at, () => decodeRecord(data, dataKey)) };
        if (position >= through) return;
      }
    }
    requireGoingOn(signal);
    if (position < through) throw endedEarly(this.location, position, through);
  }

  survey(range: EventRange): AsyncGenerator<ScannedEvent> {
    return this.scan(range);
  }

  async *events(range: Parameters<History["events"]>[0]): AsyncGenerator<readonly LogEvent[]> {
    const { after, through, follow = false, signal } = range;
    let position = after;
    for await (const events of untilTrimmed(readEvents(this.#log, { ...range, follow, freed: true }))) {
      position = events.at(-1)?.offset ?? position;
      yield events;
    }
    if (follow) return;
    requireGoingOn(signal);
    if (position < through) throw endedEarly(this.location, position, through);
  }

  /** A decoder does not always know where it is. */
  #placed<T>(at: Offset, decode: () => T): T {
    try {
      return decode();
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      throw new TidemarkError(error.code, `${this.location}: offset ${at}: ${error.message}`, {
        hint: error.hint,
        cause: error,
      });
    }
  }
}

/** Whoever looks back can do something else about it than a standby. */
async function* untilTrimmed<T>(reading: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* reading;
  } catch (error) {
    if (!hasCode(error, "LOG_GAP")) throw error;
    throw new TidemarkError("LOG_GAP", error.message, {
      hint: "The log was trimmed: what went is in the set's repositories. Name one with `--repository`.",
      cause: error,
    });
  }
}
