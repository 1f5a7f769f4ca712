/** The databases of an agent are scrubbed one at a time, so that its rate holds for all of them together. */
export class ScrubTurn {
  #holder: object | undefined;

  /** Whether `who` may go on. */
  take(who: object): boolean {
    this.#holder ??= who;
    return this.#holder === who;
  }

  giveBack(who: object): void {
    if (this.#holder === who) this.#holder = undefined;
  }
}
