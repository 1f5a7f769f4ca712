import os from "node:os";

import { CaptureState } from "../capture/capture-state.ts";
import type { Config } from "../config/config.ts";
import { decodeRecord } from "../event/codec.ts";
import type { EpochStart } from "../event/kinds.ts";
import { type Offset, offset as toOffset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { LogWriter } from "../log/log-writer.ts";
import type { Clock } from "../runtime/clock.ts";

/** The record with which somebody else became the writer. */
export interface Taken {
  readonly start: EpochStart;
  readonly offset: Offset;
}

export interface OfferOptions {
  readonly config: Config;
  readonly log: ChangeLog;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Id of the standby. */
  readonly successor: string;
}

/**
 * The last record of this writer, unless it takes the offer back: a standby's epoch may follow it. The capture has ended.
 * Resolves with its offset. @throws as LogWriter.open; then it may be in the log, or come into it, all the same
 */
export async function makeOffer({ config, log, clock, signal, successor }: OfferOptions): Promise<Offset> {
  const { set, state: directory, capture } = config;
  using state = new CaptureState(directory, set);
  const writer = await LogWriter.open({
    log,
    set,
    identity: { writer: state.writer, host: os.hostname() },
    known: state.known,
    clock,
    signal,
    foreignWriterGraceMs: 3 * capture.heartbeatMs,
    takeover: false,
    successor,
  });
  return writer.head;
}

/** Who took the offer at `offeredAt`; undefined when nobody has. @throws what the log throws */
export async function takenAfter(log: ChangeLog, offeredAt: Offset): Promise<Taken | undefined> {
  const offset = toOffset(offeredAt + 1);
  const data = await log.get(offset);
  const body = data && decodeRecord(data).body;
  return body?.kind === "epoch" ? { start: body, offset } : undefined;
}
