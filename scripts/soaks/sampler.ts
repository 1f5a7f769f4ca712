/** Peaks while something runs: memory of processes, size of a WAL, disk in use. */
import fs from "node:fs";

import { usageOf } from "../benchmarks/process.ts";

const EVERY_MS = 100;

export class Sampler implements Disposable {
  readonly peaks = { walBytes: 0, diskBytes: 0 };
  /** By name. */
  readonly rssBytes: Record<string, number> = {};
  readonly #directory: string;
  readonly #wal: string;
  readonly #pids = new Map<string, number>();
  readonly #freeAtStart: number;
  readonly #timer: NodeJS.Timeout;

  constructor(directory: string, wal: string) {
    this.#directory = directory;
    this.#wal = wal;
    this.#freeAtStart = this.#freeBytes();
    this.#timer = setInterval(() => this.#sample(), EVERY_MS);
  }

  /** Watches the memory of `pid` under this name, instead of an earlier one. */
  watch(name: string, pid: number): void {
    this.#pids.set(name, pid);
  }

  #sample(): void {
    const wal = fs.statSync(this.#wal, { throwIfNoEntry: false })?.size ?? 0;
    this.peaks.walBytes = Math.max(this.peaks.walBytes, wal);
    this.peaks.diskBytes = Math.max(this.peaks.diskBytes, this.#freeAtStart - this.#freeBytes());
    for (const [name, pid] of this.#pids) {
      this.rssBytes[name] = Math.max(this.rssBytes[name] ?? 0, residentBytes(pid));
    }
  }

  #freeBytes(): number {
    const { bavail, bsize } = fs.statfsSync(this.#directory);
    return bavail * bsize;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** 0 when the process is gone. */
function residentBytes(pid: number): number {
  try {
    return usageOf(pid).rssBytes;
  } catch {
    return 0;
  }
}
