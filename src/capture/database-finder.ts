import fs from "node:fs";

import type { DatabasePattern } from "../config/config.ts";
import { baseDirectory, isFlat, matchingFiles } from "../config/database-patterns.ts";
import { type Clock, sleep } from "../runtime/clock.ts";

const TICK_MS = 1000;
/** All is scanned again at least this often, whatever the directory's times say. */
const FULL_SCAN_MS = 10_000;
/** A pattern of several levels is scanned all the time, but takes no more than one part in so many of the time. */
const SCAN_SHARE = 50;
/** Entries that were made in the same tick of the kernel's clock as the last scan may not show in the directory's time. */
const CLOCK_TICK_MS = 100;

export interface DatabaseFinderOptions {
  readonly patterns: readonly DatabasePattern[];
  readonly clock: Clock;
  /** Everything that matches now. */
  readonly onScan: (pattern: DatabasePattern, files: readonly string[]) => void;
}

/**
 * Finds files that appear under patterns, within about a second. The time of a directory tells whether anything was made,
 * renamed or deleted in it; unlike a watch it costs nothing while the databases in it are written.
 */
export class DatabaseFinder {
  readonly #options: DatabaseFinderOptions;
  readonly #scans: PatternScan[];

  constructor(options: DatabaseFinderOptions) {
    this.#options = options;
    this.#scans = options.patterns.map((pattern) => new PatternScan(pattern));
  }

  scan(): void {
    const { clock, onScan } = this.#options;
    for (const scan of this.#scans) {
      const files = scan.run(clock);
      if (files) onScan(scan.pattern, files);
    }
  }

  /** Until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (this.#scans.length > 0 && !signal.aborted) {
      await sleep(TICK_MS, signal);
      if (!signal.aborted) this.scan();
    }
  }
}

class PatternScan {
  readonly pattern: DatabasePattern;
  readonly #directory: string;
  #seen: string | undefined;
  #dueMs = 0;

  constructor(pattern: DatabasePattern) {
    this.pattern = pattern;
    this.#directory = baseDirectory(pattern);
  }

  /** What matches; undefined when nothing can have changed. */
  run(clock: Clock): readonly string[] | undefined {
    const beganMs = clock.monotonic();
    const stat = lookAt(this.#directory);
    const seen = stat && `${stat.dev}:${stat.ino}:${stat.mtimeNs}`;
    const unchanged = isFlat(this.pattern) && this.#seen === seen;
    if (beganMs < this.#dueMs && (unchanged || !isFlat(this.pattern))) return undefined;
    const recent = Math.abs(clock.now() - Number((stat?.mtimeNs ?? 0n) / 1_000_000n)) <= CLOCK_TICK_MS;
    this.#seen = recent ? "changing" : (seen ?? "none");
    const files = matchingFiles(this.pattern);
    const tookMs = clock.monotonic() - beganMs;
    this.#dueMs = beganMs + (isFlat(this.pattern) ? FULL_SCAN_MS : Math.min(tookMs * SCAN_SHARE, FULL_SCAN_MS));
    return files;
  }
}

/** Undefined when it is not there, or may not be looked at: then nothing matches. */
function lookAt(directory: string): fs.BigIntStats | undefined {
  try {
    return fs.statSync(directory, { bigint: true });
  } catch {
    return undefined;
  }
}
