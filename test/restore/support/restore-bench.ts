import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import type { Offset } from "../../../src/event/positions.ts";
import { LogHistory } from "../../../src/restore/log-history.ts";
import type { RestoreProgress } from "../../../src/restore/carry-out.ts";
import { parseRestoreTarget } from "../../../src/restore/restore-target.ts";
import { restore, type RestoreOptions, type RestorePreview, type RestoreReport } from "../../../src/restore/restore.ts";
import type { Clock } from "../../../src/runtime/clock.ts";
import { ImagedDatabase } from "../../support/database-images.ts";
import { PageDiffLog } from "../../support/page-diff-log.ts";

export interface RestoreCall {
  readonly to?: string;
  readonly target?: string;
  readonly databases?: readonly string[];
  readonly tables?: RestoreOptions["tables"];
  readonly check?: "full" | "quick";
  readonly force?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: RestoreProgress) => void;
}

/** A clock that stands still until it is set. */
export class SetClock implements Clock {
  nowMs = Date.UTC(2026, 4, 4, 10, 0, 0);

  now(): number {
    return this.nowMs;
  }

  monotonic(): number {
    return performance.now();
  }
}

/** A log filled from real databases, and restores from it, in one temporary directory. */
export class RestoreBench implements AsyncDisposable {
  readonly directory: string;
  readonly log: PageDiffLog;
  readonly clock: SetClock;
  readonly #sources: ImagedDatabase[] = [];
  #targets = 0;

  private constructor(directory: string, log: PageDiffLog, clock: SetClock) {
    this.directory = directory;
    this.log = log;
    this.clock = clock;
  }

  static async open(): Promise<RestoreBench> {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-restore-"));
    const clock = new SetClock();
    return new RestoreBench(directory, await PageDiffLog.open(path.join(directory, "log"), "app", clock), clock);
  }

  source(name = "app.db", pageSize = 4096, encoding?: string): ImagedDatabase {
    const file = path.join(this.directory, "primary", name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    const source = new ImagedDatabase(file, pageSize, encoding);
    this.#sources.push(source);
    return source;
  }

  /** One statement, or several, in the log as one event `seconds` later. */
  async commit(
    source: ImagedDatabase,
    sql: string,
    options: { name?: string; seconds?: number } = {},
  ): Promise<Offset> {
    const { name = "app.db", seconds = 0 } = options;
    source.connection.exec(sql);
    this.clock.nowMs += seconds * 1000;
    return this.log.ship(name, source);
  }

  at(seconds: number): string {
    return new Date(Date.UTC(2026, 4, 4, 10, 0, 0) + seconds * 1000).toISOString();
  }

  newTarget(): string {
    this.#targets += 1;
    return path.join(this.directory, "targets", `restored-${this.#targets}`);
  }

  async restore(call: RestoreCall = {}): Promise<RestoreReport> {
    const report = await restore({ ...this.#options(call), dryRun: false });
    if ("dryRun" in report) throw new Error("a dry run's report");
    return report;
  }

  async preview(call: RestoreCall = {}): Promise<RestorePreview> {
    const report = await restore({ ...this.#options(call), dryRun: true });
    if (!("dryRun" in report)) throw new Error("no dry run's report");
    return report;
  }

  /** Everything below the directory of targets: nothing must be left there by a restore that failed. */
  leftInTargets(): string[] {
    const parent = path.join(this.directory, "targets");
    return fs.existsSync(parent) ? fs.readdirSync(parent, { recursive: true, encoding: "utf8" }).toSorted() : [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const source of this.#sources) source.close();
    await this.log[Symbol.asyncDispose]();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  #options(call: RestoreCall): Omit<Parameters<typeof restore>[0], "dryRun"> {
    return {
      history: new LogHistory(this.log.log),
      target: parseRestoreTarget(call.to ?? "latest"),
      directory: call.target ?? this.newTarget(),
      databases: call.databases,
      tables: call.tables,
      check: call.check ?? "quick",
      force: call.force ?? false,
      clock: this.clock,
      signal: call.signal ?? new AbortController().signal,
      onProgress: call.onProgress,
    };
  }
}
