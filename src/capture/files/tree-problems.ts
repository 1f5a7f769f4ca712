import type { Logger } from "pino";

import { shownPath, type TreePath } from "../../event/tree-path.ts";

/** More are counted, not told one by one. */
const MOST_TOLD = 100;

/** What of a tree cannot be captured, or not as it is: told once, and kept for the status until it is over. */
export class TreeProblems {
  readonly #logger: Logger;
  readonly #name: string;
  readonly #current = new Map<TreePath, { readonly what: string; round: number }>();
  #round = 0;
  #told = 0;

  constructor(logger: Logger, name: string) {
    this.#logger = logger;
    this.#name = name;
  }

  /** For people: one of them, and how many there are. */
  get summary(): string | undefined {
    const first = this.#current.entries().next().value;
    if (!first) return undefined;
    const [path, { what }] = first;
    const more = this.#current.size > 1 ? `, and ${this.#current.size - 1} more` : "";
    return `${shownPath(path) || "the root"}: ${what}${more}`;
  }

  add(path: TreePath, what: string): void {
    const before = this.#current.get(path);
    this.#current.set(path, { what, round: this.#round });
    if (before?.what === what) return;
    this.#told += 1;
    if (this.#told <= MOST_TOLD) this.#logger.warn({ tree: this.#name, path: shownPath(path) }, what);
    if (this.#told === MOST_TOLD) this.#logger.warn({ tree: this.#name }, "further problems are in the status only");
  }

  /** Everything is looked at; the result, called when it was, drops what was not met again. */
  round(): () => void {
    const round = (this.#round += 1);
    return () => {
      for (const [path, problem] of this.#current) if (problem.round < round) this.#current.delete(path);
    };
  }

  /** All is well with it, or it is gone. */
  over(path: TreePath): void {
    if (this.#current.size > 0) this.#current.delete(path);
  }
}
