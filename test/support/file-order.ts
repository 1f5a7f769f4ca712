import path from "node:path";
import { fileURLToPath } from "node:url";

import type { LogEvent } from "../../src/event/kinds.ts";
import type { TreePath } from "../../src/event/tree-path.ts";
import { type FileWriterOptions, type FileWriterReport, versionOf } from "./apps/file-writer.ts";
import { Program } from "./apps/program.ts";
import { SqlSession } from "./apps/sql-session.ts";
import { LogFold } from "./log-fold.ts";
import type { Random } from "./random.ts";
import { within } from "./wait.ts";

const WRITER = fileURLToPath(new URL("apps/file-writer.ts", import.meta.url));

export async function createFilesTable(database: string): Promise<void> {
  await using app = new SqlSession(database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE files (name TEXT PRIMARY KEY, version INTEGER)");
}

/** Runs such applications side by side, each in a process of its own, to their end. */
export async function runFileWriters(options: readonly FileWriterOptions[], timeoutMs: number): Promise<void> {
  await using programs = new AsyncDisposableStack();
  const started = options.map((one) => programs.use(new Program([process.execPath, WRITER, JSON.stringify(one)])));
  for (const program of started) {
    const { code } = await within("a file writer ends", timeoutMs, program.exited);
    const report = program.lines.at(-1);
    if (code !== 0 || report === undefined) throw new Error(`a file writer ended with ${code}: ${program.errors}`);
    const { written, deleted } = JSON.parse(report) as FileWriterReport;
    process.stdout.write(`${path.basename(WRITER)}: ${written} written, ${deleted} deleted\n`);
  }
}

export interface OrderFigures {
  /** Offsets that were looked at. */
  readonly offsets: number;
  /** Rows in all of them. */
  readonly rows: number;
  readonly consistent: number;
  /** Rows whose file is not there, or older than the row. */
  readonly wrong: readonly string[];
  /** Those of them at points that say they are consistent. */
  readonly wrongWhereConsistent: readonly string[];
}

/** At so many offsets drawn by lot: every row's file is there, in the row's version or a later one. */
export function checkOrder(events: readonly LogEvent[], random: Random, offsets: number): OrderFigures {
  const share = offsets / events.length;
  const fold = new LogFold();
  const wrong: string[] = [];
  const wrongWhereConsistent: string[] = [];
  const figures = { offsets: 0, rows: 0, consistent: 0 };
  for (const [index, event] of events.entries()) {
    fold.apply(event);
    if (event.consistent) figures.consistent += 1;
    if (random.next() >= share && index !== events.length - 1) continue;
    const rows = fold.rows<{ name: string; version: number }>("SELECT name, version FROM files");
    figures.offsets += 1;
    figures.rows += rows.length;
    for (const { name, version } of rows) {
      const content = fold.files.get(name as TreePath);
      const found = content && versionOf(content, name);
      if (found !== undefined && found >= version) continue;
      const is = found ?? (content ? `of ${content.length} bytes` : "not there");
      wrong.push(`at ${event.offset}: ${name} is to be ${version} and is ${is}`);
      if (event.consistent) wrongWhereConsistent.push(name);
    }
  }
  return { ...figures, wrong, wrongWhereConsistent };
}
