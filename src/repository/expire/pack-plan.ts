import type { PackUse } from "../blob-use.ts";

/** A pack of which a larger share is needed by nothing that stays is written anew without it. */
const WASTED_SHARE = 0.5;
/** Of a pack's listing at most: for each blob, and for itself. */
const LISTED_BYTES = 45;
const LISTING_BYTES = 64;
/** Needed content that one run writes anew at most; the rest has its turn in the next ones. */
const COPY_BYTES = 2 * 1024 ** 3;

export interface PacksToPlan {
  readonly uses: readonly PackUse[];
  /** Names of the packs that are there. */
  readonly there: readonly string[];
  readonly isMarked: (name: string) => boolean;
  /** Marked long enough ago. */
  readonly isDue: (name: string) => boolean;
  /** Packs may be written anew. */
  readonly copies: boolean;
}

export interface PackPlan {
  /** To be removed now: marked long ago, and needed by nothing that is there. */
  readonly dead: readonly string[];
  /** To be marked: nothing that stays needs them. */
  readonly unneeded: readonly string[];
  /** To be written anew without what nothing needs, then marked. */
  readonly copied: readonly PackUse[];
  /** Needed by what stays, and not marked. */
  readonly staying: readonly PackUse[];
  /** Marked, and needed again. */
  readonly neededAgain: readonly string[];
  /** Partly needed ones that stay as they are. */
  readonly wasted: readonly PackUse[];
}

/** What becomes of each pack. Pure. */
export function planPacks({ uses, there, isMarked, isDue, copies }: PacksToPlan): PackPlan {
  const known = new Map(uses.map((use) => [use.name, use]));
  // What no index object names was left behind by a writer that died, or is being written.
  const packs = there.map((name) => known.get(name) ?? { name, bytes: 0, blobs: 0, usedBytes: 0, keptBytes: 0 });
  const staying = packs.filter(({ name, keptBytes }) => keptBytes > 0 && !isMarked(name));
  const copied = copies ? withinLimit(staying.filter(isWasteful)) : [];
  return {
    dead: packs.filter(({ name, usedBytes }) => usedBytes === 0 && isDue(name)).map(nameOf),
    unneeded: packs.filter(({ name, keptBytes }) => keptBytes === 0 && !isMarked(name)).map(nameOf),
    copied,
    staying,
    neededAgain: packs.filter(({ name, keptBytes }) => keptBytes > 0 && isMarked(name)).map(nameOf),
    wasted: staying.filter((pack) => wastedBytes(pack) > 0 && !copied.includes(pack)),
  };
}

/** What a pack takes for blobs that nothing needs; its own listing is none of that, and most of a small one. */
export function wastedBytes({ bytes, blobs, keptBytes }: PackUse): number {
  return Math.max(0, bytes - blobs * LISTED_BYTES - LISTING_BYTES - keptBytes);
}

function isWasteful(pack: PackUse): boolean {
  const wasted = wastedBytes(pack);
  return wasted > (wasted + pack.keptBytes) * WASTED_SHARE;
}

/** The most wasteful ones first. */
function withinLimit(packs: readonly PackUse[]): PackUse[] {
  let left = COPY_BYTES;
  return packs
    .toSorted((one, other) => one.keptBytes / one.bytes - other.keptBytes / other.bytes)
    .filter(({ keptBytes }) => (left -= keptBytes) >= 0);
}

function nameOf({ name }: { readonly name: string }): string {
  return name;
}
