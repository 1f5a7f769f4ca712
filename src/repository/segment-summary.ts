import { chunksOf } from "../event/chunk-list.ts";
import type { LogEvent, SqliteCommit, SqlitePart } from "../event/kinds.ts";
import { BEFORE_FIRST, type Offset } from "../event/positions.ts";
import { type ByteString, byteString, bytesOf } from "../event/tree-path.ts";
import type { SegmentDatabase, SegmentHead, SegmentMark } from "./segment.ts";

/** More names than this are not said: whoever wants to know them reads the events. */
const MAX_CONTENTS = 100_000;

export type SegmentSummary = Pick<
  SegmentHead,
  "databases" | "trees" | "marks" | "contents" | "lastConsistent" | "checksumSeed"
>;

type Gathered = { -readonly [field in keyof SegmentDatabase]: SegmentDatabase[field] };

/** What the head of a segment says of its events, so that planning need not read them. */
export function summarize(events: Iterable<LogEvent>): SegmentSummary {
  const databases = new Map<string, Gathered>();
  const trees = new Set<string>();
  const contents = new Set<ByteString>();
  const marks: SegmentMark[] = [];
  let lastConsistent: Offset | undefined;
  let checksumSeed: bigint | undefined;
  for (const { body, offset, timeMs, consistent } of events) {
    if (consistent) lastConsistent = offset;
    if (body.kind === "genesis") checksumSeed = body.checksumSeed;
    if (body.kind === "mark") marks.push({ name: body.name, offset, timeMs });
    if ("tree" in body) trees.add(body.tree);
    for (const name of namesIn(body)) contents.add(name);
    if (body.kind === "sqlite.part") databaseOf(databases, body).parts = true;
    if (body.kind === "sqlite.commit") addCommit(databaseOf(databases, body), body, { offset, timeMs });
  }
  const names = contents.size > MAX_CONTENTS ? undefined : [...contents].map(bytesOf);
  return {
    databases: [...databases.values()],
    trees: [...trees],
    marks,
    contents: names,
    lastConsistent,
    checksumSeed,
  };
}

/** Names of the contents that an event gives, or refers to. */
export function* namesIn(body: LogEvent["body"]): Generator<ByteString> {
  if (body.kind === "file.chunk") yield byteString(body.id);
  if (body.kind !== "file.put" && body.kind !== "file.part") return;
  for (const { id } of chunksOf(body.chunks)) yield id;
}

function addCommit(
  database: Gathered,
  { pageSize, sizePages, after, parts, cause }: SqliteCommit,
  { offset, timeMs }: Pick<LogEvent, "offset" | "timeMs">,
): void {
  Object.assign(database, { offset, timeMs, pageSize, sizePages, checksum: after });
  database.commits += 1;
  database.largestPages = Math.max(database.largestPages, sizePages);
  if (parts > 0) database.parts = true;
  if (cause === "copy") database.copy = offset;
}

function databaseOf(
  databases: Map<string, Gathered>,
  { database: name, pageSize }: SqlitePart | SqliteCommit,
): Gathered {
  const known = databases.get(name);
  if (known) return known;
  const nothing = { offset: BEFORE_FIRST, timeMs: 0, sizePages: 0, checksum: 0n, commits: 0, largestPages: 0 };
  const made: Gathered = { name, pageSize, ...nothing, copy: undefined, parts: false };
  databases.set(name, made);
  return made;
}
