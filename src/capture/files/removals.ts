import type { Removal } from "./tree-seam.ts";
import type { TreeSide } from "./tree-side.ts";

interface Seen {
  readonly tree: TreeSide;
  readonly removals: readonly Removal[];
}

/**
 * What was seen to be gone waits until every commit made before is sent: first all databases are asked for what was
 * committed until now, then that is let pass, then the removals are published.
 */
export class Removals {
  readonly #syncDatabases: () => Promise<void>;
  readonly #wake: () => void;
  /** The databases were not asked since. */
  #seen: Seen[] = [];
  /** They are being asked. */
  #asking: readonly Seen[] = [];
  /** Every commit made before is queued, or in the log. */
  #due: Seen[] = [];

  constructor(syncDatabases: () => Promise<void>, wake: () => void) {
    this.#syncDatabases = syncDatabases;
    this.#wake = wake;
  }

  get isEmpty(): boolean {
    return this.#seen.length + this.#asking.length + this.#due.length === 0;
  }

  get areDue(): boolean {
    return this.#due.length > 0;
  }

  add(tree: TreeSide, removals: readonly Removal[]): void {
    this.#seen.push({ tree, removals });
    void this.#ask();
  }

  /** To be published after everything that is queued now. */
  takeDue(): readonly Seen[] {
    return this.#due.splice(0);
  }

  /** Whoever asks the databases waits for them, and they may wait for us: nobody waits for this. */
  async #ask(): Promise<void> {
    if (this.#asking.length > 0 || this.#seen.length === 0) return;
    this.#asking = this.#seen;
    this.#seen = [];
    try {
      await this.#syncDatabases();
      this.#due.push(...this.#asking);
      this.#wake();
    } catch {
      // A database has failed or is stopped: what is gone is found by the first scan of the next start.
    }
    this.#asking = [];
    await this.#ask();
  }
}
