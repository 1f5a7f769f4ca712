import picomatch from "picomatch";

/**
 * What `--path` asks for, over names as people see them: `uploads/2026/a.pdf`. A directory that a pattern names comes
 * with everything below it. `*` and `**` match names that begin with a dot, unlike node's `path.matchesGlob`: a restore
 * must not leave `.htaccess` behind.
 */
export class PathFilter {
  readonly #patterns: readonly { readonly text: string; readonly matches: (name: string) => boolean; used: boolean }[];

  constructor(globs: readonly string[]) {
    this.#patterns = globs.map((glob) => {
      const text = glob.replace(/^\.\//, "").replace(/\/+$/, "");
      const matches = picomatch([text, `${text}/**`], { dot: true, nonegate: true });
      return { text, matches, used: false };
    });
  }

  matches(name: string): boolean {
    let found = false;
    for (const pattern of this.#patterns) {
      // Also to the letter: a name copied from a listing may hold what is special in a pattern.
      if (name !== pattern.text && !name.startsWith(`${pattern.text}/`) && !pattern.matches(name)) continue;
      pattern.used = true;
      found = true;
    }
    return found;
  }

  /** The first pattern that nothing matched so far. */
  get unused(): string | undefined {
    return this.#patterns.find(({ used }) => !used)?.text;
  }
}
