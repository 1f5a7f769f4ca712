/** Commits that passed files that changed before them: how many, and what is said of it until there is a consistent point again. */
export class Overtaken {
  readonly #maxWaitMs: number;
  #total = 0;
  #since = 0;

  constructor(maxWaitMs: number) {
    this.#maxWaitMs = maxWaitMs;
  }

  /** Since the start. */
  get total(): number {
    return this.#total;
  }

  /** For people. */
  get warning(): string | undefined {
    if (this.#since === 0) return undefined;
    const commits = this.#since === 1 ? "a commit has" : `${this.#since} commits have`;
    return `${commits} passed files that changed before: order.maxWait (${this.#maxWaitMs} ms) was over, or changes were not announced; until the next consistent point rows may point at files that are older, or not there`;
  }

  /** True: there were none since the last consistent point. */
  add(commits: number): boolean {
    const isFirst = this.#since === 0 && commits > 0;
    this.#total += commits;
    this.#since += commits;
    return isFirst;
  }

  /** There is a consistent point. */
  over(): void {
    this.#since = 0;
  }
}
