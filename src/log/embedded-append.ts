import type Database from "better-sqlite3";
import { crashPoint } from "../runtime/crash-point.ts";
import type { TidemarkError } from "../runtime/errors.ts";
import type { AppendRequest } from "./embedded-protocol.ts";
import { storeBounds } from "./embedded-store.ts";
import { fencedError, foreignWriterError, regressedError } from "./log-errors.ts";

export interface AppendOutcome {
  /** New head after each request that is in the log now; the requests after these are not. */
  readonly heads: readonly number[];
  /** Why the first request that is not in the log was refused. */
  readonly error?: TidemarkError;
}

/** Inserts the records of all requests, stopping at the first that does not fit. Runs inside a transaction. */
export function appendRows(
  database: Database.Database,
  requests: readonly AppendRequest[],
  location: string,
): AppendOutcome {
  const insert = database.prepare("INSERT INTO record (offset, time, epoch, data) VALUES (?, ?, ?, ?)");
  let head = storeBounds(database).last;
  const heads: number[] = [];
  for (const request of requests) {
    if (head < request.expectedHead) return { heads, error: regressedError(location, request.expectedHead, head) };
    if (head > request.expectedHead) {
      const error = differenceFromStored(database, request, location);
      if (error) return { heads, error };
      heads.push(request.expectedHead + request.records.length);
      continue;
    }
    request.records.forEach((data, index) => {
      head += 1;
      insert.run(head, request.times[index], request.epochs[index], data);
    });
    heads.push(head);
    crashPoint("log: inserted");
  }
  return { heads };
}

/** undefined when the log holds exactly these records already: an earlier try had succeeded without our learning of it. */
function differenceFromStored(
  database: Database.Database,
  request: AppendRequest,
  location: string,
): TidemarkError | undefined {
  const find = database.prepare<[number], { epoch: number; data: Buffer }>(
    "SELECT epoch, data FROM record WHERE offset = ?",
  );
  for (const [index, data] of request.records.entries()) {
    const at = request.expectedHead + 1 + index;
    const stored = find.get(at);
    if (stored && stored.data.equals(data)) continue;
    const ours = request.epochs[index] ?? 0;
    if (stored && stored.epoch > ours) return fencedError(location, { offset: at, epoch: stored.epoch, ours });
    return foreignWriterError(location, `offset ${at} holds a record that this writer did not write`);
  }
  return undefined;
}
