import type { Logger } from "pino";

import { shownPath, type TreePath } from "../../event/tree-path.ts";

/** Of so many places it is known; the scrub finds the others again and again. */
const MAX_PLACES = 100_000;

/** What the standby's file system did not take of the metadata of which places: told once a kind, and no damage. */
export class Refusals {
  readonly #logger: Logger;
  readonly #places = new Set<TreePath>();
  readonly #told = new Set<string>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  has(at: TreePath): boolean {
    return this.#places.has(at);
  }

  note(at: TreePath, refused: readonly string[]): void {
    if (refused.length === 0) return void this.#places.delete(at);
    if (this.#places.size < MAX_PLACES) this.#places.add(at);
    for (const name of refused) {
      if (this.#told.has(name)) continue;
      this.#told.add(name);
      this.#logger.warn(
        { path: shownPath(at) },
        `the standby's file system does not take the ${name} of this file, and perhaps of others`,
      );
    }
  }
}
