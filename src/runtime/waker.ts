/** Lets one loop wait for "something happened" or a time, whichever is first. A wake while nobody waits is kept. */
export class Waker {
  #woken = false;
  #resume: (() => void) | undefined;

  wake(): void {
    this.#woken = true;
    this.#resume?.();
  }

  /** Resolves true when woken, false after `ms` milliseconds. */
  async wait(ms: number): Promise<boolean> {
    if (!this.#woken) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms);
        this.#resume = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#resume = undefined;
    }
    const woken = this.#woken;
    this.#woken = false;
    return woken;
  }
}
