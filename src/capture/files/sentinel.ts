import fs from "node:fs";
import path from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

import { sleep } from "../../runtime/clock.ts";
import { makeDirectory } from "../../runtime/durable-directory.ts";
import type { Moments } from "./sight.ts";
import type { WatchBackend } from "./watch-backend.ts";

/** Where so many in a row were not announced, the next one probably is not either: it is not waited for long. */
const UNHEARD = 3;
const UNHEARD_PATIENCE_MS = 100;

export interface SentinelOptions {
  /** Of our own: it is emptied. */
  readonly directory: string;
  readonly backend: WatchBackend;
  readonly patienceMs: number;
  /** One was announced. */
  readonly onHeard?: (number: number) => void;
}

/**
 * Tells when everything that happened before now has been announced: a file of ours is renamed in a directory that the
 * same backend watches, and backends keep the order.
 */
export class Sentinel implements Disposable, Moments {
  readonly #options: SentinelOptions;
  #watch: Disposable | undefined;
  /** The file's name is a number: each time another, so that a late announcement of an old one proves nothing. */
  #number = 0;
  #passed = 0;
  /** So many in a row were not announced. */
  #unheard = 0;
  #onPassed: (number: number) => void = () => undefined;

  constructor(options: SentinelOptions) {
    this.#options = options;
  }

  get passed(): number {
    return this.#passed;
  }

  get sent(): number {
    return this.#number;
  }

  /** Another one may be announced, although the last one was not: the kernel's queue may have run over, and the event loop stood still. */
  get isHopeful(): boolean {
    return this.#watch !== undefined && this.#unheard < UNHEARD;
  }

  /** @throws what the file system says */
  begin(): void {
    const { directory, backend } = this.#options;
    this[Symbol.dispose]();
    fs.rmSync(directory, { recursive: true, force: true });
    makeDirectory(directory, { mode: 0o700 });
    fs.writeFileSync(this.#file(), "");
    this.#watch = backend.watch(Buffer.from(directory), {
      onEvent: (_kind, name) => this.#onEvent(Number(name)),
      onFailure: () => undefined,
    });
  }

  /** The number of one that was sent after the call and announced. Undefined: it is not announced, or not for long. */
  async pass(): Promise<number | undefined> {
    if (!this.#watch) return undefined;
    // libuv reads announcements until there are none: one that calls for the next before its reader is left would keep timers
    // and everything else from their turn for as long as that goes on.
    await nextTurn();
    const passed = Promise.withResolvers<boolean>();
    const late = new AbortController();
    const patienceMs = this.isHopeful ? this.#options.patienceMs : UNHEARD_PATIENCE_MS;
    try {
      const number = this.send();
      this.#onPassed = (announced) => announced >= number && passed.resolve(true);
      const isHeard = await Promise.race([passed.promise, lateAfter(patienceMs, late.signal)]);
      this.#unheard = isHeard ? 0 : this.#unheard + 1;
      return isHeard ? number : undefined;
    } finally {
      late.abort();
    }
  }

  /** Its number. One that cannot be sent will not be announced. */
  send(): number {
    const before = this.#file();
    this.#number += 1;
    try {
      fs.renameSync(before, this.#file());
    } catch {
      // Its directory was removed: it is made anew when nobody hears of this one.
    }
    return this.#number;
  }

  [Symbol.dispose](): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
  }

  /** The old name is announced as well. */
  #onEvent(number: number): void {
    if (!(number > this.#passed)) return;
    this.#passed = number;
    this.#options.onHeard?.(number);
    this.#onPassed(number);
  }

  #file(): string {
    return path.join(this.#options.directory, String(this.#number));
  }
}

/** An event loop that stood still runs its timers before it reads what was announced meanwhile. */
async function lateAfter(ms: number, signal: AbortSignal): Promise<boolean> {
  await sleep(ms, signal);
  for (let turns = 0; turns < 2; turns += 1) await nextTurn();
  return false;
}
