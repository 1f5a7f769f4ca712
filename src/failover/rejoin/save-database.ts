import fs from "node:fs";
import path from "node:path";

import type { PageSpool } from "../../replica/sqlite/page-spool.ts";
import { makeDirectory, syncDirectory } from "../../runtime/durable-directory.ts";
import { writeFully } from "../../sqlite/write-fully.ts";
import type { FormerDatabase } from "./former-database.ts";
import { removeDatabase } from "./move-database.ts";
import type { DivergedDatabase } from "./report.ts";
import { type RowChanges, tellRowChanges } from "./row-changes.ts";

const PIECE_BYTES = 256 * 1024;

export interface SaveDatabaseOptions {
  readonly found: DivergedDatabase;
  /** What differs, as the log knows it. */
  readonly pages: PageSpool;
  readonly common: { readonly offset: number; readonly at: string };
  readonly directory: string;
  /** For the database as of the last common offset. */
  readonly scratch: string;
}

/**
 * Saves what a database has beyond the last common offset: statements that lead from there to it, and a copy of all of it
 * when they cannot say everything. Durable when it returns; made anew when it is called again.
 */
export async function saveDatabase(former: FormerDatabase, options: SaveDatabaseOptions): Promise<DivergedDatabase> {
  const { found, directory } = options;
  const file = path.join(directory, `${found.name}.sql`);
  makeDirectory(path.dirname(file), { mode: 0o700 });
  const changes = await withCommon(former, options, (common) => writeStatements(file, { former, common, options }));
  const copy = changes.uncompared.length > 0 ? path.join(directory, found.name) : null;
  if (copy !== null) await former.copyTo(copy);
  syncDirectory(path.dirname(file));
  const { tables, schemaChanges, uncompared } = changes;
  return { ...found, tables, schemaChanges, uncompared, file, copy };
}

async function withCommon<T>(
  former: FormerDatabase,
  { scratch, pages }: SaveDatabaseOptions,
  work: (common: string) => T,
): Promise<T> {
  const common = path.join(scratch, "common.db");
  removeDatabase(common);
  try {
    await former.copyTo(common, pages);
    return work(common);
  } finally {
    removeDatabase(common);
  }
}

interface Statements {
  readonly former: FormerDatabase;
  readonly common: string;
  readonly options: SaveDatabaseOptions;
}

function writeStatements(file: string, { former, common, options }: Statements): RowChanges {
  using out = new TextFile(file);
  const { found } = options;
  out.line(`-- ${found.name}: what ${former.path} had committed after offset ${options.common.offset}`);
  out.line(`-- of the log (${options.common.at}) and the log has not. Last written ${found.until}.`);
  out.line("-- UPDATE and DELETE change a row only while it is as it was then. Triggers would run once more.");
  out.line("BEGIN;");
  out.line("PRAGMA defer_foreign_keys = ON;");
  const changes = tellRowChanges({ former: former.path, common }, (sql) => out.line(sql));
  out.line("COMMIT;");
  for (const { name, inserted, updated, deleted } of changes.tables)
    out.line(`-- ${name}: ${inserted} inserted, ${updated} updated, ${deleted} deleted`);
  for (const reason of changes.uncompared) out.line(`-- not told here: ${reason}; the copy beside this file has it`);
  out.sync();
  return changes;
}

/** Written in pieces. */
class TextFile implements Disposable {
  readonly #fd: number;
  #pending: string[] = [];
  #bytes = 0;
  #position = 0;

  constructor(file: string) {
    this.#fd = fs.openSync(file, "w", 0o600);
  }

  line(text: string): void {
    this.#pending.push(text, "\n");
    this.#bytes += text.length + 1;
    if (this.#bytes >= PIECE_BYTES) this.#flush();
  }

  sync(): void {
    this.#flush();
    fs.fsyncSync(this.#fd);
  }

  [Symbol.dispose](): void {
    fs.closeSync(this.#fd);
  }

  #flush(): void {
    const bytes = Buffer.from(this.#pending.join(""));
    writeFully(this.#fd, bytes, this.#position);
    this.#position += bytes.length;
    this.#pending = [];
    this.#bytes = 0;
  }
}
