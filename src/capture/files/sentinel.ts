import fs from "node:fs";
import path from "node:path";

import { sleep } from "../../runtime/clock.ts";
import { makeDirectory } from "../../runtime/durable-directory.ts";
import type { WatchBackend } from "./watch-backend.ts";

/** Where the last one was not announced, the next one probably is not either. */
const UNHEARD_PATIENCE_MS = 100;

export interface SentinelOptions {
  /** Of our own: it is emptied. */
  readonly directory: string;
  readonly backend: WatchBackend;
  readonly patienceMs: number;
}

/**
 * Tells when everything that happened before now has been announced: a file of ours is renamed in a directory that the
 * same backend watches, and backends keep the order.
 */
export class Sentinel implements Disposable {
  readonly #options: SentinelOptions;
  #watch: Disposable | undefined;
  /** The file's name is a number: each time another, so that a late announcement of an old one proves nothing. */
  #number = 0;
  /** The last one was announced. */
  #works = true;
  #waiting: { readonly name: string; readonly seen: () => void } | undefined;

  constructor(options: SentinelOptions) {
    this.#options = options;
  }

  /** @throws what the file system says */
  begin(): void {
    const { directory, backend } = this.#options;
    this[Symbol.dispose]();
    fs.rmSync(directory, { recursive: true, force: true });
    makeDirectory(directory, { mode: 0o700 });
    fs.writeFileSync(this.#file(), "");
    this.#watch = backend.watch(Buffer.from(directory), {
      onEvent: (_kind, name) => {
        if (name === this.#waiting?.name) this.#waiting?.seen();
      },
      onFailure: () => undefined,
    });
  }

  /** `onSeen` is called between what happened before and what happened after. False: it is not announced, or not for long. */
  async pass(onSeen?: () => void): Promise<boolean> {
    if (!this.#watch) return false;
    const before = this.#file();
    this.#number += 1;
    const seen = Promise.withResolvers<boolean>();
    this.#waiting = { name: String(this.#number), seen: () => (onSeen?.(), seen.resolve(true)) };
    const late = new AbortController();
    const patienceMs = this.#works ? this.#options.patienceMs : UNHEARD_PATIENCE_MS;
    try {
      fs.renameSync(before, this.#file());
      this.#works = await Promise.race([seen.promise, lateAfter(patienceMs, late.signal)]);
      return this.#works;
    } catch {
      return false;
    } finally {
      late.abort();
      this.#waiting = undefined;
    }
  }

  /** When the last one was sent, by the clock that files get their times from. */
  get sentNs(): bigint {
    return fs.statSync(this.#options.directory, { bigint: true }).mtimeNs;
  }

  [Symbol.dispose](): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
  }

  #file(): string {
    return path.join(this.#options.directory, String(this.#number));
  }
}

async function lateAfter(ms: number, signal: AbortSignal): Promise<boolean> {
  await sleep(ms, signal);
  return false;
}
