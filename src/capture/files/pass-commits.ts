import { setImmediate as nextTurn } from "node:timers/promises";

import type { CaptureFeed } from "../capture-feed.ts";
import { mergeCommits } from "../merge-commits.ts";
import type { ShipQueue } from "../ship-queue.ts";
import type { FilesFeed } from "./files-feed.ts";

/** Records appended between two turns of the event loop. */
const RECORDS_A_TURN = 64;

export interface PassCommitsOptions {
  readonly feed: CaptureFeed;
  readonly files: FilesFeed;
  readonly queue: ShipQueue;
}

/** Sends what was taken from the queue. `consistent`: the point behind all of it is. */
export async function passCommits(
  { feed, files, queue }: PassCommitsOptions,
  { merge, consistent }: { readonly merge: boolean; readonly consistent: boolean },
): Promise<void> {
  const bodies = queue.taken.map(({ body }) => body);
  const passing = merge ? mergeCommits(bodies) : bodies;
  const turns = new Map(queue.taken.map(({ body, turn }) => [body, turn]));
  for (let at = 0; at < passing.length; at += RECORDS_A_TURN) {
    const some = passing.slice(at, at + RECORDS_A_TURN);
    const last = at + RECORDS_A_TURN >= passing.length;
    const { offsets, acknowledged } = feed.send(some, { consistent: consistent && last });
    for (const [index, offset] of offsets.entries()) {
      const body = some[index];
      if (body) turns.get(body)?.resolve({ offset, acknowledged });
    }
    if (!last) await nextTurn();
  }
  if (passing.length > 0) files.unmarked = !consistent;
  queue.passed();
}
