import { randomUUID } from "node:crypto";
import os from "node:os";

import { type Clock, sleep } from "../runtime/clock.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { isDead, processIdentity } from "../runtime/process-identity.ts";
import { decodeLock, encodeLock, type LockNote } from "./notes.ts";
import { LOCK_PREFIX } from "./object-names.ts";
import { repositoryChanged } from "./index-view.ts";
import type { LockMode, RepositoryLock } from "./repository.ts";
import type { SealedObjects } from "./sealed-objects.ts";

/** Written anew so often; one that was not for so long was left behind by somebody who died. */
const RENEW_MS = 5 * 60_000;
const STALE_MS = 30 * 60_000;
/** Before others may take it as left behind. */
const LOST_MS = 25 * 60_000;
/** What a process had asked a store for when it was killed has happened, or never will. */
const SETTLE_MS = 10_000;
/** Releasing may not take longer. */
const RELEASE_MS = 10_000;
/** Behind the name of a lock that was released where nothing can be removed. */
const RELEASED = "-released";

/** Nothing is in it. */
export function isReleased(name: string): boolean {
  return name.endsWith(RELEASED);
}

export interface LockOptions {
  readonly objects: SealedObjects;
  readonly clock: Clock;
  readonly mode: LockMode;
  readonly signal: AbortSignal;
  /** It only tells others. */
  readonly besideExclusive?: boolean;
  /** Before what somebody who was killed on this machine held is free. */
  readonly settleMs?: number;
}

/** First one's own lock, then a look at those of others: of two who come at once at least one sees the other. */
export async function takeLock(options: LockOptions): Promise<RepositoryLock> {
  const lock = new ObjectLock(options);
  try {
    await lock.take();
    return lock;
  } catch (error) {
    await lock[Symbol.asyncDispose]();
    throw error;
  }
}

class ObjectLock implements RepositoryLock {
  readonly #options: LockOptions;
  readonly #lost = new AbortController();
  readonly #stop = new AbortController();
  readonly #names: string[] = [];
  readonly #sinceMs: number;
  #renewing: Promise<void> | undefined;
  /** When the object that is there now was written, at the latest. */
  #renewed = { wallMs: 0, monotonicMs: 0 };

  constructor(options: LockOptions) {
    this.#options = options;
    this.#sinceMs = options.clock.now();
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  requireHeld(): void {
    const { clock, objects } = this.#options;
    const { wallMs, monotonicMs } = this.#renewed;
    // A monotonic clock stands still while the machine sleeps.
    const ageMs = Math.max(clock.now() - wallMs, clock.monotonic() - monotonicMs);
    if (this.#lost.signal.aborted || ageMs > LOST_MS) throw repositoryChanged(objects.location);
  }

  async take(): Promise<void> {
    const { signal, besideExclusive = false } = this.#options;
    await this.#write(signal);
    if (!besideExclusive) await this.#requireNobodyElse(signal);
    this.#renewing = this.#renew();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#renewing;
    for (const name of this.#names) await this.#release(name, AbortSignal.timeout(RELEASE_MS)).catch(() => undefined);
  }

  /** A new object: none is ever overwritten. */
  async #write(signal: AbortSignal): Promise<void> {
    const { objects, clock, mode } = this.#options;
    const name = `${LOCK_PREFIX}${randomUUID()}`;
    const who = { host: os.hostname(), pid: process.pid, process: processIdentity() };
    const note: LockNote = { mode, ...who, sinceMs: this.#sinceMs, atMs: clock.now() };
    const began = { wallMs: note.atMs, monotonicMs: clock.monotonic() };
    // Before it is there: a put that seemed to fail may have succeeded.
    this.#names.push(name);
    await objects.put({ kind: "lock", name }, encodeLock(note), signal);
    this.#renewed = began;
  }

  async #requireNobodyElse(signal: AbortSignal): Promise<void> {
    const { objects, mode, clock, settleMs = SETTLE_MS } = this.#options;
    const names: string[] = [];
    for await (const { name } of objects.store.list(LOCK_PREFIX, signal)) names.push(name);
    const released = new Set(names.filter(isReleased).map((name) => name.slice(0, -RELEASED.length)));
    const killed: string[] = [];
    for (const name of names) {
      if (isReleased(name) || released.has(name) || this.#names.includes(name)) continue;
      const note = await readLock(objects, name, signal);
      if (!note || clock.now() - note.atMs > STALE_MS) await this.#release(name, signal);
      else if (mode === "shared" && note.mode === "shared") continue;
      else if (note.process !== undefined && isDead(note.process)) killed.push(name);
      else throw lockedBy(objects.location, note);
    }
    if (killed.length > 0) await sleep(settleMs, signal);
    for (const name of killed) await this.#release(name, signal);
  }

  async #renew(): Promise<void> {
    const { clock } = this.#options;
    for (let pauseMs = RENEW_MS; ;) {
      await sleep(pauseMs, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      try {
        const old = [...this.#names];
        await this.#write(this.#stop.signal);
        pauseMs = RENEW_MS;
        for (const name of old) await this.#release(name, this.#stop.signal);
      } catch {
        if (clock.monotonic() - this.#renewed.monotonicMs > LOST_MS) return this.#lost.abort();
        pauseMs = RENEW_MS / 10;
      }
    }
  }

  async #release(name: string, signal: AbortSignal): Promise<void> {
    const { store } = this.#options.objects;
    try {
      await store.remove(name, signal);
    } catch (error) {
      if (!hasCode(error, "OBJECT_LOCKED", "STORE_DENIED")) throw error;
      await store.put(name + RELEASED, new Uint8Array(0), signal);
    }
    const at = this.#names.indexOf(name);
    if (at !== -1) this.#names.splice(at, 1);
  }
}

/** Undefined when it was released meanwhile. One that cannot be read was torn: whoever wrote it is not at work. */
async function readLock(objects: SealedObjects, name: string, signal: AbortSignal): Promise<LockNote | undefined> {
  try {
    return await objects.get({ kind: "lock", name }, signal, decodeLock);
  } catch (error) {
    if (hasCode(error, "OBJECT_MISSING", "OBJECT_CORRUPT")) return undefined;
    throw error;
  }
}

function lockedBy(location: string, { host, pid, sinceMs, mode }: LockNote): TidemarkError {
  const since = new Date(sinceMs).toISOString();
  return new TidemarkError(
    "REPOSITORY_LOCKED",
    `${location} is in use (${mode}) by process ${pid} on ${host} since ${since}`,
    {
      hint: "Wait until it is done. What a process that died left behind counts for half an hour, on its own machine for seconds.",
    },
  );
}
