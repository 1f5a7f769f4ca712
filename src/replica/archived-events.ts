import type { LogEvent } from "../event/kinds.ts";
import type { Offset } from "../event/positions.ts";
import { equalBytes } from "../log/log-reader.ts";
import type { Repository } from "../repository/repository.ts";
import type { SegmentInfo } from "../repository/segment.ts";
import { TidemarkError } from "../runtime/errors.ts";

/** Where a reader of segments is. */
export interface ArchiveCursor {
  readonly logId: string;
  position: Offset;
  /** SHA-256 of the record at `position`; undefined: not known. */
  hash: Uint8Array | undefined;
}

/**
 * Events of segments that follow each other, from the cursor on. Contents of files are not in them, and page images are
 * valid until the next batch is asked for. @throws OBJECT_MISSING, OBJECT_CORRUPT, REPOSITORY_FOREIGN, what the store throws
 */
export async function* archivedEvents(
  { segments, location }: Repository,
  cursor: ArchiveCursor,
  signal: AbortSignal,
): AsyncGenerator<readonly LogEvent[], void, void> {
  const behind = await segmentsBehind({ segments }, cursor.position, signal);
  for (let next = following(behind, cursor.position); next; next = following(behind, cursor.position)) {
    const { logId, hashBefore, hashAfter } = await segments.head(next, signal);
    const follows = next.first <= cursor.position || !cursor.hash || equalBytes(hashBefore, cursor.hash);
    if (logId !== cursor.logId || !follows) throw notFollowing(location, next);
    for await (const events of segments.read(next, { after: cursor.position, signal })) {
      if (events.length > 0) yield events.map((event) => event.event());
      cursor.position = events.at(-1)?.head.offset ?? cursor.position;
      cursor.hash = undefined;
    }
    cursor.hash = hashAfter;
  }
}

/** How far events lead without a gap from `after` on, by the names of the segments. */
export async function archivedThrough(repository: Repository, after: Offset, signal: AbortSignal): Promise<Offset> {
  const behind = await segmentsBehind(repository, after, signal);
  let through = after;
  for (let next = following(behind, through); next; next = following(behind, through)) through = next.last;
  return through;
}

async function segmentsBehind(
  { segments }: Pick<Repository, "segments">,
  after: Offset,
  signal: AbortSignal,
): Promise<SegmentInfo[]> {
  const behind: SegmentInfo[] = [];
  for await (const segment of segments.list(signal)) if (segment.last > after) behind.push(segment);
  return behind;
}

/** Of those that hold the next event the one that goes furthest. Those before it are taken out: they are needed no more. */
function following(behind: SegmentInfo[], position: Offset): SegmentInfo | undefined {
  let best: SegmentInfo | undefined;
  while (behind[0] && behind[0].first <= position + 1) {
    const candidate = behind.shift();
    if (candidate && candidate.last > (best?.last ?? position)) best = candidate;
  }
  return best;
}

function notFollowing(location: string, { name }: SegmentInfo): TidemarkError {
  return new TidemarkError("OBJECT_CORRUPT", `${location}: ${name} does not follow the events before it`, {
    hint: "`tidemark verify` tells what is damaged and what depends on it.",
  });
}
