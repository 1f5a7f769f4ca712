import fs from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";

import { inotifyQueue } from "../inotify-queue.ts";
import type { Sentinel } from "./sentinel.ts";

const QUEUE_LENGTH_FILE = "/proc/sys/fs/inotify/max_queued_events";
const DEFAULT_QUEUE_LENGTH = 16_384;
/** What was announced by watches that were closed meanwhile is read from the queue and not counted. */
const SAFE_SHARE = 0.75;
/** After so many announcements in one turn of the event loop a sentinel is sent. */
const PROBE_EVERY = 1024;

interface Probe {
  readonly number: number;
  /** Announcements in this turn before it was sent. */
  readonly at: number;
}

/**
 * Suspects that changes passed unannounced: libuv drops the kernel's word that the queue ran over. But it reads all of the
 * queue in one turn of the event loop, however much comes meanwhile, so little in a turn shows that it did not. In a long one
 * sentinels tell how long the queue is: what is announced between one that is sent and the next one that is heard stood in it.
 */
export class LostEvents implements Disposable {
  readonly #sentinel: Sentinel;
  readonly #onLost: (why: string) => void;
  readonly #counting: Disposable;
  readonly #most = Math.floor(queueLength() * SAFE_SHARE);
  #inTurn = 0;
  #heardAt = 0;
  #probes: Probe[] = [];

  constructor(sentinel: Sentinel, onLost: (why: string) => void) {
    this.#sentinel = sentinel;
    this.#onLost = onLost;
    this.#counting = inotifyQueue.onAnnounced(() => this.#count());
  }

  /** A sentinel was announced, in the midst of a turn or not. */
  heard(number: number): void {
    const waited = this.#inTurn - this.#heardAt;
    while (this.#probes[0] && this.#probes[0].number <= number) this.#heardAt = this.#probes.shift()?.at ?? 0;
    // Before anybody goes on who waits for this sentinel.
    if (waited >= this.#most) this.#onLost(`${waited} changes waited to be announced`);
  }

  [Symbol.dispose](): void {
    this.#counting[Symbol.dispose]();
  }

  #count(): void {
    if (this.#inTurn === 0) void nextTurn().then(() => this.#endTurn());
    this.#inTurn += 1;
    if (this.#inTurn % PROBE_EVERY === 0) this.#probes.push({ number: this.#sentinel.send(), at: this.#inTurn });
  }

  /** All of the queue was read. */
  #endTurn(): void {
    if (this.#probes.length > 0) this.#onLost("more changes than the kernel keeps waited to be announced");
    this.#probes = [];
    this.#heardAt = 0;
    this.#inTurn = 0;
  }
}

function queueLength(): number {
  try {
    return Number.parseInt(fs.readFileSync(QUEUE_LENGTH_FILE, "utf8"), 10) || DEFAULT_QUEUE_LENGTH;
  } catch {
    return DEFAULT_QUEUE_LENGTH;
  }
}
