import type { Config } from "../config/config.ts";
import { type LockReport, WriteLock } from "../failover/write-lock.ts";

export interface HoldOptions {
  readonly config: Pick<Config, "databases" | "patterns">;
  /** Why, for people, as it is just now. */
  readonly reason: () => string;
  /** RFC 3339. */
  readonly at: string;
}

/** Keeps the application from writing for a while, and says why. */
export class Hold implements AsyncDisposable {
  readonly #options: HoldOptions;
  readonly #lock: WriteLock;

  constructor(options: HoldOptions) {
    this.#options = options;
    this.#lock = new WriteLock(options.config);
  }

  get reason(): string {
    return this.#options.reason();
  }

  get at(): string {
    return this.#options.at;
  }

  /** Undefined until every database was tried once. */
  get report(): LockReport | undefined {
    return this.#lock.report;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lock[Symbol.asyncDispose]();
  }
}
