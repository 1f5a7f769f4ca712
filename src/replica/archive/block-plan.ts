/** A table block describes so much of a database; see proto/repository.md. */
export const BLOCK_BYTES = 64 * 1024 * 1024;
export const EXTENT_BYTES = 256 * 1024;
/** Pages that one patch blob holds at most. */
export const PATCH_PAGES = 64;
/** With so many of its pages in patches an extent is written whole again. */
const PATCHED_SHARE = 0.25;
/** A patch with fewer pages than this that still count may be taken into a new one. */
const SMALL_PATCH_PAGES = PATCH_PAGES / 2;

/** Pages that lie one behind the other in a blob; a slot whose page is superseded, or gone, is 0. */
export interface Patch<Id> {
  readonly id: Id;
  readonly pages: readonly number[];
}

/** Where the pages of a block are. A later patch wins over an earlier one, and over the extent. */
export interface BlockTable<Id> {
  /** Undefined: nothing but zeros. */
  readonly extents: readonly (Id | undefined)[];
  readonly patches: readonly Patch<Id>[];
}

/** What the last base of a repository holds of a block. */
export interface KnownBlock<Id> {
  /** Of each page, as in the page index; those beyond the end have 0. */
  readonly hashes: BigUint64Array;
  readonly table: BlockTable<Id>;
}

export interface BlockNow {
  readonly pageSize: number;
  /** Page number of the first page of the block. */
  readonly firstPage: number;
  /** Of each page that the database has in this block; the lock-byte page has 0. */
  readonly hashes: BigUint64Array;
}

/** What is to be read and written, so that the block is described as it is now. */
export interface BlockPlan<Id> {
  /** Of each extent: whether it is to be written whole; else what it was. */
  readonly extents: readonly ({ readonly write: true } | { readonly write: false; readonly id: Id | undefined })[];
  readonly kept: readonly Patch<Id>[];
  /** Page numbers of each new patch, ascending. */
  readonly patches: readonly (readonly number[])[];
  /** Nothing is to be written, and the table is the one that is known. */
  readonly unchanged: boolean;
}

/** Decides what a base writes of a block. Pure: everything that it needs to know is handed in. */
export function planBlock<Id>(now: BlockNow, last: KnownBlock<Id> | undefined): BlockPlan<Id> {
  const perExtent = EXTENT_BYTES / now.pageSize;
  const count = Math.ceil(now.hashes.length / perExtent);
  if (!last) {
    return { extents: Array.from({ length: count }, () => ({ write: true })), kept: [], patches: [], unchanged: false };
  }
  const changed = changedPages(now, last.hashes);
  const live = livePatches(now, last.table.patches, changed);
  const whole = wholeExtents(now, { changed, patched: live.flatMap(({ pages }) => pages), perExtent });
  const extentOf = (page: number): number => Math.floor((page - now.firstPage) / perExtent);
  const inPatch = (page: number): boolean => page !== 0 && !whole.has(extentOf(page));
  const old = live
    .map(({ id, pages }) => ({ id, pages: pages.map((page) => (inPatch(page) ? page : 0)) }))
    .filter(({ pages }) => pages.some((page) => page !== 0));
  const { kept, pages } = takeSmall(old, [...changed].filter(inPatch));
  const extents = Array.from({ length: count }, (_, extent) =>
    whole.has(extent) ? { write: true as const } : { write: false as const, id: last.table.extents[extent] },
  );
  const patches = cut(pages);
  const unchanged = changed.size === 0 && now.hashes.length === last.hashes.length && whole.size === 0;
  return { extents, kept, patches, unchanged };
}

function changedPages({ hashes, firstPage }: BlockNow, known: BigUint64Array): Set<number> {
  const changed = new Set<number>();
  for (let i = 0; i < hashes.length; i += 1) if (hashes[i] !== (known[i] ?? 0n)) changed.add(firstPage + i);
  return changed;
}

/** Of each patch the slots that still count: not superseded by a later patch, nor changed since, nor beyond the end. */
function livePatches<Id>(now: BlockNow, patches: readonly Patch<Id>[], changed: ReadonlySet<number>): Patch<Id>[] {
  const end = now.firstPage + now.hashes.length;
  const seen = new Set(changed);
  const live: Patch<Id>[] = [];
  for (const { id, pages } of patches.toReversed()) {
    const slots = pages.map((page) => (page < end && !seen.has(page) ? page : 0));
    for (const page of slots) seen.add(page);
    live.unshift({ id, pages: slots });
  }
  return live;
}

interface Patched {
  readonly changed: Iterable<number>;
  readonly patched: Iterable<number>;
  readonly perExtent: number;
}

/** Extents of which so much is patched that they are written whole; and those that were not there before. */
function wholeExtents({ firstPage, hashes }: BlockNow, { changed, patched, perExtent }: Patched): Set<number> {
  const counts = new Map<number, number>();
  for (const page of [...changed, ...patched]) {
    if (page === 0) continue;
    const extent = Math.floor((page - firstPage) / perExtent);
    counts.set(extent, (counts.get(extent) ?? 0) + 1);
  }
  const whole = new Set<number>();
  for (const [extent, count] of counts) {
    const pages = Math.min(perExtent, hashes.length - extent * perExtent);
    if (count >= pages * PATCHED_SHARE) whole.add(extent);
  }
  return whole;
}

/**
 * Small patches are taken into the new ones, the smallest first, each only if it is no larger than what is gathered:
 * their number stays at the logarithm of the bases, and a page is written again at most a few times for it.
 */
function takeSmall<Id>(old: readonly Patch<Id>[], changed: readonly number[]): { kept: Patch<Id>[]; pages: number[] } {
  const pages = [...changed];
  if (pages.length === 0) return { kept: [...old], pages };
  const sized = old.map((patch) => ({ patch, live: patch.pages.filter((page) => page !== 0) }));
  const taken = new Set<Patch<Id>>();
  for (const { patch, live } of sized.toSorted((one, other) => one.live.length - other.live.length)) {
    const gathered = pages.length % PATCH_PAGES;
    if (live.length >= SMALL_PATCH_PAGES || live.length > gathered) continue;
    taken.add(patch);
    pages.push(...live);
  }
  return { kept: old.filter((patch) => !taken.has(patch)), pages };
}

function cut(pages: number[]): number[][] {
  const sorted = pages.sort((one, other) => one - other);
  const patches: number[][] = [];
  for (let at = 0; at < sorted.length; at += PATCH_PAGES) patches.push(sorted.slice(at, at + PATCH_PAGES));
  return patches;
}
