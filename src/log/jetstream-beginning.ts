import type { StreamConfig } from "@nats-io/jetstream";

import { BEFORE_FIRST, type Offset, offset } from "../event/positions.ts";
import type { LogBeginning } from "./change-log.ts";
import { existsError } from "./log-errors.ts";

/** The genesis is kept in the stream's description, the one place that outlives a purge on every server version. */
export const GENESIS_MARK = "genesis:";
/**
 * Of a stream that goes on where a lost one ended: offsets are its sequence numbers and this. Servers can be told to begin with
 * another sequence number only from 2.10 on; before, a purge beyond the head leaves them expecting the old one.
 */
const BEGINNING = /\bafter:(\d+) writer:(\S+) /;

/** What is added to the description of such a stream. */
export function describeBeginning({ after, writer, genesis }: LogBeginning): string {
  return ` after:${after} writer:${writer} ${GENESIS_MARK}${Buffer.from(genesis).toString("base64")}`;
}

/** Offset before that of a stream's first message ever. */
export function baseOf({ description }: StreamConfig): Offset {
  const [, after] = BEGINNING.exec(description ?? "") ?? [];
  return after === undefined ? BEFORE_FIRST : offset(Number(after));
}

/** Whoever made the stream put himself into its description: of two that begin a log only one goes on. @throws LOG_EXISTS */
export function assertBegunAs(location: string, { description }: StreamConfig, { after, writer }: LogBeginning): void {
  const [, at, by] = BEGINNING.exec(description ?? "") ?? [];
  if (at !== String(after) || by !== writer) throw existsError(location);
}
