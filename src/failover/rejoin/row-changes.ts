import Database from "better-sqlite3";

import { changedTable, type ComparedTable, identifier } from "./table-changes.ts";

export interface RowChanges {
  readonly tables: readonly ComparedTable[];
  /** Indexes, triggers and views, and tables as a whole, that were made, dropped or changed. */
  readonly schemaChanges: number;
  /** Why not everything could be compared row by row; empty: everything was. */
  readonly uncompared: readonly string[];
}

interface SchemaRow {
  readonly type: string;
  readonly name: string;
  readonly sql: string | null;
}

interface TableRow {
  readonly name: string;
  readonly type: "table" | "shadow" | "virtual" | "view";
  readonly wr: number;
}

const OWN_TABLES = /^sqlite_/;

/**
 * Tells what leads from the database `common` to the database `former`, as SQL that can be read and run: `line` gets each
 * statement. Where that cannot be told, the reason is among the results.
 */
export function tellRowChanges(
  { former, common }: { readonly former: string; readonly common: string },
  line: (sql: string) => void,
): RowChanges {
  const connection = new Database(common, { fileMustExist: true });
  try {
    connection.pragma("query_only=ON");
    connection.prepare("ATTACH DATABASE ? AS former").run(former);
    return new Comparison(connection, line).compare();
  } finally {
    connection.close();
  }
}

class Comparison {
  readonly #connection: Database.Database;
  readonly #line: (sql: string) => void;
  readonly #tables: ComparedTable[] = [];
  readonly #uncompared: string[] = [];
  #schemaChanges = 0;

  constructor(connection: Database.Database, line: (sql: string) => void) {
    this.#connection = connection;
    this.#line = line;
  }

  compare(): RowChanges {
    const [before, after] = [this.#tablesOf("main"), this.#tablesOf("former")];
    const [sqlBefore, sqlAfter] = [this.#schemaOf("main"), this.#schemaOf("former")];
    for (const [name, table] of after) {
      const was = sqlBefore.get(`table ${name}`);
      const is = sqlAfter.get(`table ${name}`);
      if (!before.has(name)) this.#made(table, is ?? "");
      else if (was !== is) this.#uncompared.push(`the table ${name} has another definition`);
      else this.#changed(table);
    }
    for (const name of before.keys()) if (!after.has(name)) this.#schemaLine(`DROP TABLE ${identifier(name)};`);
    this.#otherSchema(sqlBefore, sqlAfter);
    this.#userVersion();
    return { tables: this.#tables, schemaChanges: this.#schemaChanges, uncompared: this.#uncompared };
  }

  #made(table: TableRow, sql: string): void {
    if (table.type === "virtual") this.#uncompared.push(`the virtual table ${table.name} is new`);
    if (table.type !== "table") return;
    this.#schemaLine(`${sql};`);
    this.#attempt(table, { isNew: true });
  }

  #changed(table: TableRow): void {
    // What is in a virtual table is in its shadow tables, in a form of its own.
    if (table.type === "table") this.#attempt(table, { isNew: false });
    if (table.type === "shadow" && this.#differs(table.name))
      this.#uncompared.push(`${table.name}, which belongs to a virtual table, has other content`);
  }

  #attempt({ name, wr }: TableRow, { isNew }: { readonly isNew: boolean }): void {
    try {
      const table = changedTable(this.#connection, { name, withoutRowid: wr === 1, isNew }, this.#line);
      if (table) this.#tables.push(table);
    } catch (error) {
      this.#uncompared.push(`the table ${name}: ${String(error)}`);
    }
  }

  #differs(table: string): boolean {
    const name = identifier(table);
    const either = `SELECT * FROM (SELECT * FROM former.${name} EXCEPT SELECT * FROM main.${name})
      UNION ALL SELECT * FROM (SELECT * FROM main.${name} EXCEPT SELECT * FROM former.${name})`;
    return this.#connection.prepare(`SELECT EXISTS (${either})`).pluck().get() === 1;
  }

  #otherSchema(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): void {
    const isOther = (key: string): boolean => !key.startsWith("table ");
    for (const [key, sql] of before)
      if (isOther(key) && after.get(key) !== sql)
        this.#schemaLine(`DROP ${key.split(" ")[0]?.toUpperCase()} ${identifier(key.slice(key.indexOf(" ") + 1))};`);
    for (const [key, sql] of after) if (isOther(key) && before.get(key) !== sql) this.#schemaLine(`${sql};`);
  }

  #userVersion(): void {
    const [was, is] = ["main", "former"].map((schema) =>
      this.#connection.pragma(`${schema}.user_version`, { simple: true }),
    );
    if (was !== is) this.#schemaLine(`PRAGMA user_version = ${String(is)};`);
  }

  #schemaLine(sql: string): void {
    this.#schemaChanges += 1;
    this.#line(sql);
  }

  #tablesOf(schema: string): Map<string, TableRow> {
    const rows = this.#connection.prepare<[], TableRow>(`PRAGMA ${schema}.table_list`).all();
    const ours = rows.filter(({ name, type }) => type !== "view" && !OWN_TABLES.test(name));
    return new Map(ours.map((row) => [row.name, row]));
  }

  /** By type and name. */
  #schemaOf(schema: string): Map<string, string> {
    const rows = this.#connection.prepare<[], SchemaRow>(`SELECT type, name, sql FROM ${schema}.sqlite_schema`).all();
    return new Map(rows.flatMap(({ type, name, sql }) => (sql === null ? [] : [[`${type} ${name}`, sql] as const])));
  }
}
