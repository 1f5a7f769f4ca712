import { TidemarkError } from "../../runtime/errors.ts";

type Request = PromiseWithResolvers<void>;

/**
 * Who waits until everything committed so far is sent. A look answers those who asked before it began, and nobody
 * else; when there will be no further look, what was asked and not answered is refused.
 */
export class SyncRequests {
  #waiting: Request[] = [];
  #ended: { readonly error: TidemarkError | undefined } | undefined;
  #aside = false;

  get pending(): boolean {
    return this.#waiting.length > 0;
  }

  async ask(): Promise<void> {
    if (this.#ended?.error) throw this.#ended.error;
    if (this.#ended || this.#aside) return;
    const request = Promise.withResolvers<void>();
    this.#waiting.push(request);
    await request.promise;
  }

  /** Runs a look. When it throws, those who asked go on waiting for the next. */
  async answerWith<T>(look: () => Promise<T>): Promise<T> {
    const asked = this.#waiting.splice(0);
    try {
      const result = await look();
      for (const request of asked) request.resolve();
      return result;
    } catch (error) {
      this.#waiting.unshift(...asked);
      throw error;
    }
  }

  /** Nothing of the database is to be had for now: nobody waits for it, until `expect`. */
  standAside(): void {
    this.#aside = true;
    this.answer();
  }

  expect(): void {
    this.#aside = false;
  }

  /** Everything committed before this call is sent. */
  answer(): void {
    for (const request of this.#waiting.splice(0)) request.resolve();
  }

  /** There will be no further look: after a clean last one, or because of `error`. */
  end(error: TidemarkError | undefined): void {
    this.#ended = { error };
    const refusal = error ?? stopped();
    for (const request of this.#waiting.splice(0)) request.reject(refusal);
  }
}

function stopped(): TidemarkError {
  return new TidemarkError("INTERRUPTED", "the agent was stopped before it had looked again", {
    hint: "Start it again, then repeat the command.",
  });
}
