import type { TreePath } from "../../event/tree-path.ts";

/** Sentinels by number: what was announced behind one happened after it was sent. */
export interface Moments {
  /** The last one that was announced. */
  readonly passed: number;
  readonly sent: number;
}

/** Commits were asked for between these two: all that were made before the first are known, and all that are known were made before the second. */
export interface Fetched {
  readonly from: number;
  readonly to: number;
}

/** Something came after the one at the earliest, and went before the next after the other. */
export interface Loss {
  readonly born: number;
  readonly last: number;
}

/** A name came to something. What was made under it is written to then; what was moved there is not. */
export interface Arrival {
  isChanged: boolean;
}

/** What was announced of one name since it was looked at, and what stood there each time. */
export interface Sight {
  readonly path: TreePath;
  /** Sentinels that had passed at its first announcement, and at its last. */
  readonly born: number;
  last: number;
  /** Its inode while it is held. */
  inode: number | undefined;
  /** How often nothing was there, since something was. */
  misses: number;
  /** How many of them what was there before explains by its end; more, and something else came and went. */
  explained: number;
  /** The last sentinel sent when nothing was there. Once a later one has passed, all is announced that led to it. */
  missedAt: number;
  /** Something is, or was, there that neither the log nor a descriptor has. */
  isUnheld: boolean;
  arrival: Arrival;
  /** What of it was missed has gone there. */
  readonly moves: Arrival[];
}

export function newSight(path: TreePath, born: number): Sight {
  const unseen = { inode: undefined, misses: 0, explained: 1, missedAt: 0, isUnheld: false };
  return { path, born, last: born, ...unseen, arrival: { isChanged: false }, moves: [] };
}

/** Something is there, and was not missed. */
export function isPresent(sight: Sight): void {
  sight.misses = 0;
  sight.explained = 1;
  sight.isUnheld = false;
  sight.moves.length = 0;
}

/** Whether something of it was gone before it could be held. */
export function isMissed({ misses, explained, isUnheld, moves }: Sight): boolean {
  return misses > explained || (misses > 0 && isUnheld) || moves.some(({ isChanged }) => isChanged);
}

/** What was missed last, by its coming and its going, was moved there: unless that is written to, and was made there instead. */
export function hasMoved(sight: Sight, to: Arrival, { sent }: Moments): void {
  sight.moves.push(to);
  sight.missedAt = sent;
  sight.misses -= 2;
  if (sight.misses > 0) return;
  sight.misses = 0;
  sight.isUnheld = false;
}

/** Nothing more will be announced of what was missed. */
export function isFinal({ misses, missedAt, moves }: Sight, { passed }: Moments): boolean {
  return (misses === 0 && moves.length === 0) || passed > missedAt;
}

/** Whether it may have its row in commits that were fetched so, and the end of its row not. */
export function isWithin({ born, last }: Loss, { from, to }: Fetched): boolean {
  return born < to && last >= from;
}
