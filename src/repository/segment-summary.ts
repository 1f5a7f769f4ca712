import type { LogEvent, SqliteCommit, SqlitePart } from "../event/kinds.ts";
import { BEFORE_FIRST, type Offset } from "../event/positions.ts";
import type { SegmentDatabase, SegmentHead, SegmentMark } from "./segment.ts";

export type SegmentSummary = Pick<SegmentHead, "databases" | "trees" | "marks" | "lastConsistent" | "checksumSeed">;

type Gathered = { -readonly [field in keyof SegmentDatabase]: SegmentDatabase[field] };

/** What the head of a segment says of its events, so that planning need not read them. */
export function summarize(events: Iterable<LogEvent>): SegmentSummary {
  const databases = new Map<string, Gathered>();
  const trees = new Set<string>();
  const marks: SegmentMark[] = [];
  let lastConsistent: Offset | undefined;
  let checksumSeed: bigint | undefined;
  for (const { body, offset, timeMs, consistent } of events) {
    if (consistent) lastConsistent = offset;
    if (body.kind === "genesis") checksumSeed = body.checksumSeed;
    if (body.kind === "mark") marks.push({ name: body.name, offset, timeMs });
    if ("tree" in body) trees.add(body.tree);
    if (body.kind === "sqlite.part") databaseOf(databases, body).parts = true;
    if (body.kind === "sqlite.commit") addCommit(databaseOf(databases, body), body, { offset, timeMs });
  }
  return { databases: [...databases.values()], trees: [...trees], marks, lastConsistent, checksumSeed };
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
