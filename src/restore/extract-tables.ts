import path from "node:path";

import { nearestName } from "../config/nearest-name.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { databasePath } from "../replica/standby-paths.ts";
import { HelperProcess } from "./helper-process.ts";
import type { RestorePlan } from "./plan.ts";

type TableFormat = "db" | "sql";

/** Not whole databases but these tables of one. */
export interface TablesWanted {
  readonly names: readonly string[];
  readonly format: TableFormat;
}

export interface ExtractRequest {
  /** Of a database that nobody has open. */
  readonly file: string;
  readonly table: string;
  readonly format: TableFormat;
  /** Is made. */
  readonly result: string;
}

export type ExtractAnswer =
  | { readonly rows: number; readonly leftOut: readonly string[] }
  | { readonly tables: readonly string[] }
  | { readonly problem: string };

/** A table that was taken out of a restored database. */
export interface ExtractedTable {
  readonly database: string;
  readonly name: string;
  readonly rows: number;
  /** Below the target. */
  readonly file: string;
  /** Triggers, and indexes that need code of the application's. */
  readonly leftOut: readonly string[];
}

export interface TakeOptions {
  /** Undefined: whole databases are asked for. */
  readonly tables?: TablesWanted | undefined;
  /** Where the restored databases are. */
  readonly from: string;
  /** The results are made in it. */
  readonly to: string;
  readonly signal: AbortSignal;
}

/** @throws USAGE naming the databases when there are several */
export function requireOneDatabase({ databases }: RestorePlan): void {
  if (databases.length === 1) return;
  throw new TidemarkError("USAGE", `there are ${databases.length} databases at this point: whose table is meant?`, {
    hint: `Name one with \`--database\`: ${databases.map(({ name }) => name).join(", ")}.`,
  });
}

/**
 * Takes tables out of a restored database: each becomes a database with only that table, its indexes and its rows, or
 * the SQL that makes it.
 *
 * @throws USAGE when there is no such table, INTEGRITY when SQLite cannot read all of it, INTERRUPTED
 */
export async function takeTables(
  { databases }: RestorePlan,
  { tables, from, to, signal }: TakeOptions,
): Promise<ExtractedTable[] | undefined> {
  const database = databases[0]?.name;
  if (!tables || database === undefined) return undefined;
  const source = databasePath({ root: from }, database);
  const extracted: ExtractedTable[] = [];
  using helper = new HelperProcess<ExtractRequest, ExtractAnswer>("table-process", signal);
  for (const name of new Set(tables.names)) {
    const file = freeNameAmong(extracted, fileName(name, tables.format));
    const request = { file: source, table: name, format: tables.format, result: path.join(to, file) };
    const answer = await helper.ask(request, `taking the table ${name} out of ${database}`);
    if ("tables" in answer) throw noTable(name, database, answer.tables);
    if ("problem" in answer) throw unreadable(name, database, answer.problem);
    extracted.push({ database, name, file, ...answer });
  }
  return extracted;
}

/** Names of tables may hold anything. */
function fileName(table: string, format: TableFormat): string {
  const safe = table.replaceAll(/[^\p{L}\p{N}._-]/gu, "_").replace(/^\.+/, "_");
  return `${safe.slice(0, 60)}.${format}`;
}

function freeNameAmong(extracted: readonly ExtractedTable[], wanted: string): string {
  const taken = new Set(extracted.map(({ file }) => file.toLowerCase()));
  const { name, ext } = path.parse(wanted);
  let free = wanted;
  for (let n = 2; taken.has(free.toLowerCase()); n += 1) free = `${name}-${n}${ext}`;
  return free;
}

function noTable(name: string, database: string, tables: readonly string[]): TidemarkError {
  const near = nearestName(name, tables);
  const question = near === undefined ? "" : `; did you mean ${near}?`;
  return new TidemarkError("USAGE", `${database} has no table ${JSON.stringify(name)} at this point${question}`, {
    hint: tables.length === 0 ? "It has no tables." : `It has ${tables.slice(0, 20).join(", ")}.`,
  });
}

function unreadable(name: string, database: string, problem: string): TidemarkError {
  return new TidemarkError("INTEGRITY", `the table ${name} of ${database} cannot be taken out: ${problem}`, {
    hint: "Restore the whole database, and read it with the application's own SQLite.",
  });
}
