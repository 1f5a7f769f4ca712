/** Watches a running agent for a while and draws what it sees. */
import { setTimeout as wait } from "node:timers/promises";
import type { ReaderReport } from "./quickstart-reader.ts";
import { count, type Session, statusOf } from "./quickstart-session.ts";
import type { Status } from "./quickstart-status.ts";

export interface Watched {
  /** One line on what writes to the database. */
  readonly source: () => string;
  readonly reader: () => ReaderReport | undefined;
}

export async function follow(session: Session, watched: Watched, seconds: number): Promise<void> {
  const redrawMs = process.stdout.isTTY ? 250 : 1_000;
  const endMs = performance.now() + seconds * 1_000;
  while (performance.now() < endMs) {
    session.signal.throwIfAborted();
    const status = await statusOf(session);
    const reader = watched.reader();
    session.view.show({
      source: watched.source(),
      log: logLine(status),
      standby: standbyLine(status, reader),
      reader: readerLine(reader),
    });
    await wait(redrawMs, undefined, { signal: session.signal });
  }
  session.view.settle();
}

function logLine(status: Status | undefined): string {
  if (!status?.capture) return "no answer from the agent";
  return `offset ${status.capture.offset.toLocaleString("en-US")}, ${Math.round(status.capture.lagMs)} ms unacknowledged`;
}

function standbyLine(status: Status | undefined, reader: ReaderReport | undefined): string {
  if (!status?.standby) return "not there yet";
  const { offset, lagEvents, verified } = status.standby;
  const proof = verified ? "checksum equal" : "CHECKSUM NOT PROVED";
  const orders = reader && reader.orders > 0 ? `, ${count(reader.orders, "order")}` : "";
  return `offset ${offset.toLocaleString("en-US")}, ${count(lagEvents, "event")} behind, ${proof}${orders}`;
}

/** Measured end to end: from the clock the application read before its BEGIN to the read that first saw the order. */
function delay(reader: ReaderReport | undefined): string {
  if (reader?.medianMs === undefined) return "";
  return `; newest order seen after ${reader.medianMs} ms (slowest ${reader.slowestMs} ms)`;
}

function readerLine(reader: ReaderReport | undefined): string {
  if (!reader) return "starting";
  const verdict = reader.broken === 0 ? "all consistent" : `${reader.broken} BROKEN: ${reader.problem}`;
  return `${count(reader.reads, "read")}, ${verdict}${delay(reader)}`;
}
