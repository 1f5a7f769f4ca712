import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import Database from "better-sqlite3";

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
  // What became of the rows, change by change; no version: it was deleted.
  await app.run("CREATE TABLE changes (number INTEGER PRIMARY KEY, name TEXT, version INTEGER)");
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
  /** Offsets at which all rows were read; those that changed are looked at in every one. */
  readonly offsets: number;
  /** Rows in all of them. */
  readonly rows: number;
  readonly consistent: number;
  /** Rows whose file is not there, or older than the row. */
  readonly wrong: readonly string[];
  /** Those of them at points that say they are consistent. */
  readonly wrongWhereConsistent: readonly string[];
}

/** At every offset, and with all rows at so many drawn by lot: every row's file is there, in the row's version or a later one. */
export function checkOrder(events: readonly LogEvent[], random: Random, offsets: number): OrderFigures {
  const share = offsets / events.length;
  const check = new OrderCheck();
  const wrongWhereConsistent: string[] = [];
  const figures = { offsets: 0, rows: 0, consistent: 0 };
  for (const [index, event] of events.entries()) {
    check.apply(event);
    if (event.consistent) {
      figures.consistent += 1;
      wrongWhereConsistent.push(...check.wrongNow);
    }
    if (random.next() >= share && index !== events.length - 1) continue;
    figures.offsets += 1;
    figures.rows += check.all(event.offset);
  }
  return { ...figures, wrong: check.wrong, wrongWhereConsistent };
}

interface Row {
  readonly name: TreePath;
  readonly version: number;
}

class OrderCheck {
  readonly #fold = new LogFold();
  readonly #rows = new Map<TreePath, number>();
  /** Versions that files have. */
  readonly #found = new Map<TreePath, number | undefined>();
  /** Rows that have no such file, and what was said of them. */
  readonly #open = new Map<TreePath, { text: string; readonly since: number }>();
  readonly #wrong: string[] = [];
  #change = 0;

  get wrong(): readonly string[] {
    return [...this.#wrong, ...[...this.#open.values()].map(({ text, since }) => `from ${since} on: ${text}`)];
  }

  /** Rows that are wrong at this point. */
  get wrongNow(): Iterable<string> {
    return this.#open.keys();
  }

  apply(event: LogEvent): void {
    this.#fold.apply(event);
    for (const name of this.#changed(event)) this.#look(name, event.offset);
  }

  /** All rows as they are now; how many there are. */
  all(at: number): number {
    const rows = this.#fold.rows<Row>("SELECT name, version FROM files");
    const isSame =
      rows.length === this.#rows.size && rows.every(({ name, version }) => this.#rows.get(name) === version);
    if (!isSame) this.#wrong.push(`at ${at}: the rows are not what their changes say`);
    for (const { name } of rows) this.#look(name, at);
    return rows.length;
  }

  /** Rows and files that this event may have changed. */
  #changed({ body }: LogEvent): Iterable<TreePath> {
    if (body.kind === "sqlite.commit") return this.#changedRows();
    if (body.kind === "dir.remove") return this.#rows.keys();
    if (body.kind !== "file.put" && body.kind !== "file.remove") return [];
    const content = this.#fold.files.get(body.path);
    this.#found.set(body.path, content && versionOf(content, body.path));
    return [body.path];
  }

  #changedRows(): TreePath[] {
    const sql = `SELECT number, name, version FROM changes WHERE number > ${this.#change} ORDER BY number`;
    const changes = this.#fold.rows<Row & { number: number; version: number | null }>(sql);
    for (const { number, name, version } of changes) {
      this.#change = number;
      if (version === null) this.#rows.delete(name);
      else this.#rows.set(name, version);
    }
    return changes.map(({ name }) => name);
  }

  #look(name: TreePath, at: number): void {
    const version = this.#rows.get(name);
    const found = this.#fold.files.has(name) ? this.#found.get(name) : undefined;
    const open = this.#open.get(name);
    if (version === undefined || (found !== undefined && found >= version)) {
      if (open) this.#wrong.push(`from ${open.since} to ${at}: ${open.text}`);
      this.#open.delete(name);
      return;
    }
    const is = found ?? (this.#fold.files.has(name) ? "not one of its own" : "not there");
    const text = `${name} is to be ${version} and is ${is}`;
    this.#open.set(name, { text, since: open?.since ?? at });
  }
}

/** The same of what was restored: rows of `database` against the files below `root`. */
export function checkRestored(database: string, root: string): { readonly rows: number; readonly wrong: string[] } {
  const db = new Database(database, { readonly: true });
  try {
    const rows = db.prepare<[], Row>("SELECT name, version FROM files").all();
    const wrong = rows.filter(({ name, version }) => {
      const file = path.join(root, name);
      const found = fs.existsSync(file) ? versionOf(fs.readFileSync(file), name) : undefined;
      return found === undefined || found < version;
    });
    return { rows: rows.length, wrong: wrong.map(({ name, version }) => `${name} is not there in version ${version}`) };
  } finally {
    db.close();
  }
}
