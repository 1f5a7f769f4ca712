import type { Logger } from "pino";

import type { LogEvent } from "../event/kinds.ts";
import { type ByteString, bytesOf } from "../event/tree-path.ts";
import type { Repository } from "../repository/repository.ts";
import { hasCode, type TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { type ArchiveCursor, archivedEvents } from "./archived-events.ts";
import { requireGoingOn } from "./standby-errors.ts";

/** A repository that is to be opened. */
export interface RepositoryToOpen {
  /** For messages; never a secret. */
  readonly location: string;
  readonly open: (signal: AbortSignal) => Promise<Repository>;
}

export interface LookBackOptions {
  /** To be read; the one that is preferred first. */
  readonly repositories: readonly RepositoryToOpen[];
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/**
 * What a standby reads when the log does not hold it any more: the repositories of its set. They are opened when
 * something is first looked for.
 */
export class LookBack implements AsyncDisposable {
  readonly #options: LookBackOptions;
  readonly #scope = new AsyncDisposableStack();
  readonly #opened = new Map<RepositoryToOpen, Promise<Repository>>();

  constructor(options: LookBackOptions) {
    this.#options = options;
  }

  /** Whether there is any. */
  get any(): boolean {
    return this.#options.repositories.length > 0;
  }

  /** Content under the name that the log gives it; undefined: none has it. @throws what a store throws that may come back */
  content(id: ByteString): Promise<Uint8Array | undefined> {
    const name = Uint8Array.from(bytesOf(id));
    return this.first(async ({ blobs }) => {
      const { signal } = this.#options;
      try {
        return await blobs.read(name, signal);
      } catch (error) {
        if (!hasCode(error, "OBJECT_MISSING")) throw error;
        // Stored since this repository was opened, perhaps.
        await blobs.refresh(signal);
        return blobs.read(name, signal);
      }
    });
  }

  /**
   * What the first of them gives that is not undefined. One that cannot be read, or is damaged, is passed over.
   * @throws what kept one from being read, when that may pass and no other one has it
   */
  async first<T>(look: (repository: Repository) => Promise<T | undefined>): Promise<T | undefined> {
    let passing: TidemarkError | undefined;
    for (const toOpen of this.#options.repositories) {
      try {
        const found = await look(await this.#open(toOpen));
        if (found !== undefined) return found;
      } catch (thrown) {
        const error = toTidemarkError(thrown);
        if (error.retryable) passing ??= error;
        this.#passOver(error);
      }
    }
    if (passing) throw passing;
    return undefined;
  }

  /** Events after the cursor, as far as the repositories lead without a gap; the cursor moves along. */
  async *events(cursor: ArchiveCursor): AsyncGenerator<readonly LogEvent[], void, void> {
    for (const toOpen of this.#options.repositories) {
      try {
        yield* archivedEvents(await this.#open(toOpen), cursor, this.#options.signal);
      } catch (error) {
        this.#passOver(toTidemarkError(error));
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#opened.clear();
    await this.#scope.disposeAsync();
  }

  #passOver({ code, hint, message }: TidemarkError): void {
    const { signal, logger } = this.#options;
    requireGoingOn(signal);
    if (code !== "OBJECT_MISSING" && code !== "REPOSITORY_EMPTY")
      logger.warn({ code, hint }, `looking for what the log holds no more: ${message}`);
  }

  #open(toOpen: RepositoryToOpen): Promise<Repository> {
    const known = this.#opened.get(toOpen);
    if (known) return known;
    const opening = toOpen.open(this.#options.signal).then((repository) => this.#scope.use(repository));
    this.#opened.set(toOpen, opening);
    opening.catch(() => this.#opened.delete(toOpen));
    return opening;
  }
}
