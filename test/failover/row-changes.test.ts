import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import Database from "better-sqlite3";
import { afterAll, expect, test } from "vitest";

import { type RowChanges, tellRowChanges } from "../../src/failover/rejoin/row-changes.ts";
import { Random } from "../support/random.ts";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-rows-"));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

let files = 0;

/** A new database, or a copy of another one, after some statements. */
function database(sql: string, from?: string): string {
  const file = path.join(directory, `${(files += 1)}.db`);
  if (from !== undefined) fs.copyFileSync(from, file);
  const connection = new Database(file);
  connection.exec(sql);
  connection.close();
  return file;
}

/** Everything in it, row by row, with the types of the values. */
function dump(file: string): unknown[] {
  const connection = new Database(file);
  const schema = connection.prepare<[], { name: string; sql: string | null }>(
    "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name",
  );
  const tables = connection.prepare<[], string>(
    "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
  );
  const rows = tables
    .pluck()
    .all()
    .map((name) => {
      const statement = connection.prepare(`SELECT * FROM "${name.replaceAll('"', '""')}"`).safeIntegers();
      return [name, statement.raw().all().map(String).toSorted()];
    });
  const version: unknown = connection.pragma("user_version", { simple: true });
  const schemaRows = schema.all();
  connection.close();
  return [schemaRows, rows, version];
}

interface Told {
  readonly changes: RowChanges;
  readonly sql: readonly string[];
  /** The database that the statements make of the common one. */
  readonly made: string;
}

function tell(common: string, former: string): Told {
  const sql: string[] = [];
  const changes = tellRowChanges({ former, common: database("", common) }, (line) => sql.push(line));
  return {
    changes,
    sql,
    made: database(["BEGIN; PRAGMA defer_foreign_keys = ON;", ...sql, "COMMIT;"].join("\n"), common),
  };
}

const ODD = `
  CREATE TABLE "odd ""name" (id INTEGER PRIMARY KEY, "a b" TEXT COLLATE NOCASE, n NUMERIC, twice AS (n * 2), kept AS (id + 1) STORED);
  CREATE TABLE plain (rowid TEXT, body BLOB);
  CREATE TABLE pairs (one TEXT, other INTEGER, value, PRIMARY KEY (other, one)) WITHOUT ROWID;
  CREATE TABLE parent (id INTEGER PRIMARY KEY);
  CREATE TABLE child (id INTEGER PRIMARY KEY AUTOINCREMENT, parent REFERENCES parent (id));
  INSERT INTO "odd ""name" (id, "a b", n) VALUES (1, 'a', 1), (2, 'it''s', 2.5), (3, NULL, 3);
  INSERT INTO plain VALUES ('x', x'00ff'), ('y', NULL), ('x', x'00ff');
  INSERT INTO pairs VALUES ('a', 1, 'v'), ('b', 1, 'w');
  INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1);
`;

test("names, types, collations, NULs, row ids, generated columns: the statements lead from one to the other", () => {
  const common = database(ODD);
  const former = database(
    `UPDATE "odd ""name" SET "a b" = 'A' WHERE id = 1;
     UPDATE "odd ""name" SET n = 'text' WHERE id = 2;
     INSERT INTO "odd ""name" (id, "a b", n) VALUES (-5, 'line' || char(10) || 'nul' || char(0) || 'end', 9e999);
     DELETE FROM "odd ""name" WHERE id = 3;
     DELETE FROM plain WHERE _rowid_ = 3; UPDATE plain SET body = 1.0 WHERE _rowid_ = 2;
     INSERT INTO plain VALUES (0.1, 12345678901234567);
     UPDATE pairs SET value = NULL WHERE one = 'a'; DELETE FROM pairs WHERE one = 'b'; INSERT INTO pairs VALUES ('ü', -1, '');
     INSERT INTO parent VALUES (7); INSERT INTO child VALUES (9, 7);
     CREATE TABLE fresh (a, b); INSERT INTO fresh VALUES (1, 2);
     CREATE INDEX by_value ON pairs (value); PRAGMA user_version = 12;`,
    common,
  );
  const { changes, made, sql } = tell(common, former);
  expect(dump(made)).toEqual(dump(former));
  expect(changes.uncompared).toEqual([]);
  expect(changes.tables.find(({ name }) => name === 'odd "name')).toMatchObject({
    inserted: 1,
    updated: 2,
    deleted: 1,
  });
  expect(sql).toContain('UPDATE "odd ""name" SET "a b" = \'A\' WHERE "id" IS 1 AND "a b" IS \'a\';');
  const nothing = tell(former, former);
  expect([nothing.sql, nothing.changes.tables]).toEqual([[], []]);
});

test("what cannot be told row by row is named: another definition, virtual tables", () => {
  const common = database("CREATE TABLE t (a); CREATE TABLE gone (a); CREATE VIRTUAL TABLE words USING fts5(w);");
  const former = database(
    "ALTER TABLE t ADD COLUMN b; DROP TABLE gone; INSERT INTO words VALUES ('one'); CREATE VIRTUAL TABLE more USING fts5(w);",
    common,
  );
  const { changes, sql } = tell(common, former);
  expect(sql).toEqual(['DROP TABLE "gone";']);
  const named = changes.uncompared.join("\n");
  for (const one of ["table t has", "words_content, which belongs", "virtual table more"]) expect(named).toContain(one);
});

test("random changes: the statements lead from one to the other", () => {
  const random = new Random("row changes");
  for (let round = 0; round < 10; round += 1) {
    const value = (): string =>
      random.pick(["NULL", "1", "1.0", "'a'", "'A'", "''", "x''", "x'61'", `${random.integer(-3, 3)}`, "'it''s'"]);
    const key = (): number => random.integer(1, 12);
    const statement = (): string =>
      random.pick([
        `INSERT OR REPLACE INTO t VALUES (${key()}, ${value()}, ${value()});`,
        `UPDATE t SET a = ${value()} WHERE id = ${key()};`,
        `DELETE FROM t WHERE id = ${key()};`,
        `INSERT OR REPLACE INTO w VALUES (${random.pick(["'a'", "'A'", "'b'"])}, ${key()}, ${value()});`,
        `DELETE FROM w WHERE n = ${key()};`,
        `INSERT INTO p VALUES (${value()});`,
        `DELETE FROM p WHERE rowid = ${key()};`,
      ]);
    const some = (): string => Array.from({ length: 30 }, statement).join("\n");
    const tables =
      "CREATE TABLE t (id INTEGER PRIMARY KEY, a COLLATE NOCASE, b TEXT); CREATE TABLE w (k TEXT, n INT, v, PRIMARY KEY (k, n)) WITHOUT ROWID; CREATE TABLE p (v);";
    const common = database(`${tables}\n${some()}`);
    const former = database(some(), common);
    expect(dump(tell(common, former).made)).toEqual(dump(former));
  }
});
