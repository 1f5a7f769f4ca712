import type { TreePath } from "../../event/tree-path.ts";

/** A file that did not stand still is looked at again after this long. */
const AGAIN_MS = 250;
/** One that has not for so long, in so many looks, does not hold commits up: it gets a short look when they pass. */
const HOLDS_MS = 2000;
const HOLDS_LOOKS = 3;

interface Since {
  readonly sinceMs: number;
  readonly looks: number;
  /** It was still being read when the look ended. */
  readonly isRead: boolean;
}

const GIVEN_UP = { sinceMs: -Infinity, looks: HOLDS_LOOKS };

/** What a look that begins makes of them. */
export interface UnsettledLook {
  /** Commits wait for these. */
  readonly waitsFor: readonly TreePath[];
  /** For these they do not. */
  readonly overdue: ReadonlySet<TreePath>;
  /** Those of them that get a look. */
  readonly again: ReadonlySet<TreePath>;
}

/** Files that did not stand still, or took too long, and since when. After a while nobody waits for them any more. */
export class Unsettled {
  #files = new Map<TreePath, Since>();
  /** What there was when the last look began. */
  #before: ReadonlyMap<TreePath, Since> = new Map();
  #dueMs = 0;

  get size(): number {
    return this.#files.size;
  }

  /** Those for which commits wait, and the others, some of which are only read for long. */
  split(nowMs: number): Pick<UnsettledLook, "waitsFor" | "overdue"> & { readonly reading: readonly TreePath[] } {
    const all = [...this.#files];
    const waitsFor = all.filter(([, one]) => holdsUp(one, nowMs)).map(([path]) => path);
    const others = all.filter(([, one]) => !holdsUp(one, nowMs));
    const reading = others.filter(([, { isRead }]) => isRead).map(([path]) => path);
    return { waitsFor, overdue: new Set(others.map(([path]) => path)), reading };
  }

  get dueMs(): number {
    return this.#files.size > 0 ? this.#dueMs : Infinity;
  }

  look(nowMs: number): UnsettledLook {
    this.#before = new Map(this.#files);
    const { waitsFor, overdue } = this.split(nowMs);
    const again = this.#dueMs <= nowMs ? overdue : new Set<TreePath>();
    this.#files = new Map([...this.#files].filter(([path]) => overdue.has(path) && !again.has(path)));
    return { waitsFor, overdue, again };
  }

  /** Found by that look. `givenUp`: whoever waited for so long does not wait for these again. */
  add(paths: readonly TreePath[], nowMs: number, { givenUp, reads }: Found): void {
    if (paths.length === 0) return;
    for (const path of paths) {
      const { sinceMs, looks } = givenUp ? GIVEN_UP : (this.#before.get(path) ?? { sinceMs: nowMs, looks: 0 });
      this.#files.set(path, { sinceMs, looks: looks + 1, isRead: reads(path) });
    }
    this.#dueMs = nowMs + AGAIN_MS;
  }
}

interface Found {
  readonly givenUp: boolean;
  /** Whether a file is still being read. */
  readonly reads: (path: TreePath) => boolean;
}

function holdsUp({ sinceMs, looks }: Since, nowMs: number): boolean {
  return nowMs - sinceMs < HOLDS_MS || looks < HOLDS_LOOKS;
}
