import ignore, { type Ignore } from "ignore";

import { bytesOf, type TreePath } from "../../event/tree-path.ts";
import { isUtf8 } from "node:buffer";

export interface SelectionPatterns {
  /** In the syntax of .gitignore, counted from the root of the tree. */
  readonly exclude: readonly string[];
  /** Brings back what `exclude` leaves out. */
  readonly include: readonly string[];
}

/** take: captured. skip: not, nor what is in it. through: a directory that is left out, in which something may be brought back. */
export type Selected = "take" | "skip" | "through";

/** The matcher keeps every path that it was asked for: it is made anew after so many. */
const MAX_REMEMBERED = 20_000;

/** What of a tree the patterns leave. */
export class Selection {
  readonly patterns: SelectionPatterns;
  readonly #isEverything: boolean;
  #exclude: Ignore;
  #include: Ignore;
  #asked = 0;

  constructor(patterns: SelectionPatterns) {
    this.patterns = { exclude: patterns.exclude, include: patterns.include };
    this.#isEverything = patterns.exclude.length === 0;
    this.#exclude = matcher(patterns.exclude);
    this.#include = matcher(patterns.include);
  }

  of(path: TreePath, isDirectory: boolean): Selected {
    if (this.#isEverything || path === "") return "take";
    this.#forgetNowAndThen();
    const asked = `${textOf(path)}${isDirectory ? "/" : ""}`;
    if (!this.#exclude.ignores(asked)) return "take";
    if (this.patterns.include.length === 0) return "skip";
    if (this.#include.ignores(asked)) return "take";
    return isDirectory && this.#mayBringBackIn(asked) ? "through" : "skip";
  }

  /** By which pattern it is left out, for people; undefined: it is not, or is passed through. */
  whyNot(path: TreePath, isDirectory: boolean): string | undefined {
    if (this.of(path, isDirectory) !== "skip") return undefined;
    const { rule } = this.#exclude.test(`${textOf(path)}${isDirectory ? "/" : ""}`);
    return rule ? `excluded by ${JSON.stringify(rule.pattern)}` : "excluded";
  }

  /** Whether a pattern can match below a directory: one without a slash anywhere, another one where its fixed parts lead. */
  #mayBringBackIn(directory: string): boolean {
    return this.patterns.include.some((pattern) => {
      const plain = pattern.replace(/\/$/, "");
      if (!plain.includes("/")) return true;
      const fixed = plain.replace(/^\//, "").split(/[*?[\\]/)[0] ?? "";
      return fixed.startsWith(directory) || directory.startsWith(fixed);
    });
  }

  #forgetNowAndThen(): void {
    if ((this.#asked += 1) < MAX_REMEMBERED) return;
    this.#asked = 0;
    this.#exclude = matcher(this.patterns.exclude);
    this.#include = matcher(this.patterns.include);
  }
}

function matcher(patterns: readonly string[]): Ignore {
  return ignore({ ignorecase: false, allowRelativePaths: true }).add(patterns);
}

/** As patterns see it: UTF-8, and what is none by its bytes. */
function textOf(path: TreePath): string {
  const bytes = bytesOf(path);
  return isUtf8(bytes) ? bytes.toString() : path;
}
