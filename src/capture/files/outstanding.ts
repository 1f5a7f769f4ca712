import type { ByteString, TreePath } from "../../event/tree-path.ts";
import type { Clock } from "../../runtime/clock.ts";
import { DirtyPaths } from "./dirty-paths.ts";
import type { Dirty, Findings } from "./tree-seam.ts";
import { Unsettled, type UnsettledLook } from "./unsettled.ts";

export interface Debounce {
  readonly trailingMs: number;
  readonly longestMs: number;
}

export interface OutstandingOptions {
  readonly clock: Clock;
  /** Something is outstanding, and nothing was. */
  readonly wake: () => void;
  /** Whether a file is still being read. */
  readonly reads: (path: TreePath) => boolean;
}

/** What of a tree is not in the log as it stands, or may not be: announced, not reached by the last look, or not standing still. */
export class Outstanding {
  /** What is marked here, and not as announced, waits for the next look. */
  readonly dirty = new DirtyPaths();
  readonly #options: OutstandingOptions;
  readonly #unsettled = new Unsettled();
  /** The last look had no time for these. */
  #late: readonly TreePath[] = [];
  #sinceMs: number | undefined;
  #lastMs = 0;

  constructor(options: OutstandingOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.dirty.count + this.#unsettled.size;
  }

  /** Everything that the last look was for is in the log. */
  get isDone(): boolean {
    return this.#late.length === 0 && this.#unsettled.size === 0;
  }

  /** Files that the log will have as they are, or later: they may stand still soon, are being read, or were not looked at. */
  get awaited(): ReadonlySet<TreePath> {
    const { waitsFor, reading, overdue } = this.#split;
    // One that was given up before it stood still long enough to be read may be read by now.
    const readNow = [...overdue].filter((path) => this.#options.reads(path));
    return new Set([...waitsFor, ...reading, ...readNow, ...this.#late]);
  }

  /** Some of them took too long. */
  get isBehind(): boolean {
    return this.#late.length + this.#split.reading.length > 0;
  }

  /** Files that do not stand still, of which nobody waits. */
  get restless(): number {
    const { overdue, reading } = this.#split;
    return overdue.size - reading.length;
  }

  /** When what was announced has stood still for so long, or at the latest. */
  announcedDueMs({ trailingMs, longestMs }: Debounce): number {
    return this.#sinceMs === undefined ? Infinity : Math.min(this.#lastMs + trailingMs, this.#sinceMs + longestMs);
  }

  /** When files that did not stand still are looked at again. */
  get unsettledDueMs(): number {
    return this.#unsettled.dueMs;
  }

  announced(directory: TreePath, name: ByteString): void {
    this.dirty.mark(directory, name);
    this.#marked();
  }

  /** It is not known of what in the directory. */
  announcedOf(directory: TreePath): void {
    this.dirty.markAll(directory);
    this.#marked();
  }

  /** For the look that begins; from here on nothing is outstanding. `again`: files that get a short look. */
  take(): { readonly dirty: Dirty; readonly again: UnsettledLook["again"] } {
    this.#sinceMs = undefined;
    const { waitsFor, overdue, again } = this.#unsettled.look(this.#options.clock.monotonic());
    for (const path of waitsFor) this.dirty.markPath(path);
    this.#late = [];
    return { dirty: this.dirty.take(overdue), again };
  }

  /** A look, or a scan, has left these. `givenUp`: whoever waited for so long does not wait for these again. */
  left({ unsettled, late }: Pick<Findings, "unsettled" | "late">, { givenUp }: { readonly givenUp: boolean }): void {
    const { clock, reads } = this.#options;
    if (late.length > 0) {
      this.#late = late;
      for (const path of late) this.dirty.markPath(path);
      this.#marked();
    }
    this.#unsettled.add(unsettled, clock.monotonic(), { givenUp, reads });
  }

  get #split(): ReturnType<Unsettled["split"]> {
    return this.#unsettled.split(this.#options.clock.monotonic());
  }

  #marked(): void {
    this.#lastMs = this.#options.clock.monotonic();
    if (this.#sinceMs !== undefined) return;
    this.#sinceMs = this.#lastMs;
    this.#options.wake();
  }
}
