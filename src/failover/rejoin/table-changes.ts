import type Database from "better-sqlite3";

export interface ComparedTable {
  readonly name: string;
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
}

export interface TableToCompare {
  readonly name: string;
  readonly withoutRowid: boolean;
  /** It is in the database `former` only. */
  readonly isNew: boolean;
}

interface Column {
  readonly name: string;
  readonly type: string;
  /** Place in the primary key, from 1 on. */
  readonly pk: number;
  readonly hidden: number;
}

const ROWID_NAMES = ["rowid", "_rowid_", "oid"] as const;

/** The rows that lead from main's table to that of the same name and definition in `former`. Undefined: there are none. */
export function changedTable(
  connection: Database.Database,
  table: TableToCompare,
  line: (sql: string) => void,
): ComparedTable | undefined {
  const shape = shapeOf(connection, table);
  // In this order rows that exchange what is unique get out of each other's way, mostly.
  const deleted = shape.isNew ? 0 : tellDeleted(connection, shape, line);
  const updated = shape.isNew ? 0 : tellUpdated(connection, shape, line);
  const inserted = tellInserted(connection, shape, line);
  if (shape.isNew) return { name: table.name, inserted, updated, deleted };
  return inserted + updated + deleted === 0 ? undefined : { name: table.name, inserted, updated, deleted };
}

/** Quoted for SQL. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

interface Shape {
  readonly name: string;
  readonly isNew: boolean;
  /** What tells a row from the others. */
  readonly key: readonly string[];
  /** What a row is made of, the key included. */
  readonly columns: readonly string[];
}

function shapeOf(connection: Database.Database, { name, withoutRowid, isNew }: TableToCompare): Shape {
  const all = connection.prepare<[string], Column>("SELECT * FROM pragma_table_xinfo(?, 'former')").all(name);
  // Generated ones follow from the others.
  const columns = all.filter(({ hidden }) => hidden === 0).map((column) => column.name);
  const primary = all.filter(({ pk }) => pk > 0).toSorted((one, other) => one.pk - other.pk);
  const quoted = columns.map(identifier);
  const shape = { name: identifier(name), isNew };
  if (withoutRowid) return { ...shape, key: primary.map((column) => identifier(column.name)), columns: quoted };
  const [first] = primary;
  if (first && primary.length === 1 && first.type.toUpperCase() === "INTEGER")
    return { ...shape, key: [identifier(first.name)], columns: quoted };
  const taken = new Set(all.map((column) => column.name.toLowerCase()));
  const rowid = ROWID_NAMES.find((candidate) => !taken.has(candidate));
  if (rowid === undefined) throw new Error("its rows have no name of their own");
  return { ...shape, key: [rowid], columns: [rowid, ...quoted] };
}

function tellInserted(
  connection: Database.Database,
  { name, isNew, key, columns }: Shape,
  line: (sql: string) => void,
): number {
  const found = `SELECT ${columns.map((column) => literal(`f.${column}`)).join(", ")} FROM former.${name} f`;
  const unlessThere = isNew ? "" : ` WHERE NOT EXISTS (SELECT 1 FROM main.${name} c WHERE ${sameKey(key)})`;
  return each(connection, found + unlessThere, (values) => {
    line(`INSERT INTO ${name} (${columns.join(", ")}) VALUES (${values.join(", ")});`);
  });
}

function tellUpdated(
  connection: Database.Database,
  { name, key, columns }: Shape,
  line: (sql: string) => void,
): number {
  const rest = columns.filter((column) => !(key.length === 1 && key[0] === column));
  if (rest.length === 0) return 0;
  const selected = rest.flatMap((column) => [differs(column), literal(`f.${column}`), literal(`c.${column}`)]);
  const keys = key.map((column) => literal(`c.${column}`));
  const sql = `SELECT ${[...keys, ...selected].join(", ")} FROM former.${name} f CROSS JOIN main.${name} c
    WHERE ${sameKey(key)} AND (${rest.map(differs).join(" OR ")})`;
  return each(connection, sql, (values) => {
    const changed = rest.flatMap((column, i) => {
      const [isOther, now = "", was = ""] = values.slice(key.length + 3 * i);
      return isOther === 1 ? [{ column, now, was }] : [];
    });
    const sets = changed.map(({ column, now }) => `${column} = ${now}`);
    const asWas = changed.map(({ column, was }) => `${column} IS ${was}`);
    const place = key.map((column, i) => `${column} IS ${values[i]}`);
    line(`UPDATE ${name} SET ${sets.join(", ")} WHERE ${[...place, ...asWas].join(" AND ")};`);
  });
}

function tellDeleted(
  connection: Database.Database,
  { name, key, columns }: Shape,
  line: (sql: string) => void,
): number {
  const sql = `SELECT ${columns.map((column) => literal(`c.${column}`)).join(", ")} FROM main.${name} c
    WHERE NOT EXISTS (SELECT 1 FROM former.${name} f WHERE ${sameKey(key)})`;
  return each(connection, sql, (values) => {
    const asWas = columns.map((column, i) => `${column} IS ${values[i]}`);
    line(`DELETE FROM ${name} WHERE ${asWas.join(" AND ")};`);
  });
}

/** Rows of the result. */
function each(connection: Database.Database, sql: string, tell: (values: (string | number)[]) => void): number {
  let rows = 0;
  for (const values of connection.prepare<[], (string | number)[]>(sql).raw().iterate()) {
    tell(values);
    rows += 1;
  }
  return rows;
}

function sameKey(key: readonly string[]): string {
  return key.map((column) => `f.${column} = c.${column}`).join(" AND ");
}

/** 1 and 1.0 differ, and so do "a" and "A", whatever the column's collation. */
function differs(column: string): string {
  return `(f.${column} COLLATE BINARY IS NOT c.${column} OR typeof(f.${column}) <> typeof(c.${column}))`;
}

/** `quote` ends a text at its first NUL. */
function literal(expression: string): string {
  return `CASE WHEN typeof(${expression}) = 'text' AND instr(${expression}, char(0)) > 0
    THEN 'CAST(x''' || hex(${expression}) || ''' AS TEXT)' ELSE quote(${expression}) END`;
}
