import { chunksOf } from "../../src/event/chunk-list.ts";
import type { LogEvent } from "../../src/event/kinds.ts";
import { type ByteString, byteString } from "../../src/event/tree-path.ts";

export interface LogContents {
  /** Contents that records of a log carry, and how many records each. */
  readonly carried: ReadonlyMap<ByteString, number>;
  /** Those that files of the log, of whatever time, are made of. */
  readonly named: ReadonlySet<ByteString>;
}

export function contentsOfLog(events: readonly LogEvent[]): LogContents {
  const carried = new Map<ByteString, number>();
  const named = new Set<ByteString>();
  const carry = (id: Uint8Array): unknown => carried.set(byteString(id), (carried.get(byteString(id)) ?? 0) + 1);
  for (const { body } of events) {
    if (body.kind === "file.chunk") carry(body.id);
    if (body.kind === "file.put" && body.data) carry(body.hash);
    if (body.kind === "file.put" || body.kind === "file.part")
      for (const { id } of chunksOf(body.chunks)) named.add(id);
  }
  return { carried, named };
}
