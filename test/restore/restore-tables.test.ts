import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";

import { RestoreBench } from "./support/restore-bench.ts";

let bench: RestoreBench;
beforeEach(async () => {
  bench = await RestoreBench.open();
});
afterEach(async () => {
  await bench[Symbol.asyncDispose]();
});

const SCHEMA = `
  PRAGMA foreign_keys=OFF;
  CREATE TABLE people (id INTEGER PRIMARY KEY);
  CREATE TABLE "odd ""name""" (
    k INTEGER PRIMARY KEY AUTOINCREMENT, v, "full name" TEXT COLLATE NOCASE, twice GENERATED ALWAYS AS (v || v) STORED,
    person REFERENCES people);
  CREATE UNIQUE INDEX by_name ON "odd ""name""" ("full name") WHERE v IS NOT NULL;
  CREATE TRIGGER watch AFTER DELETE ON "odd ""name""" BEGIN SELECT 1; END;
  CREATE TABLE plain (x); CREATE TABLE keyed (a, b, PRIMARY KEY (b, a)) WITHOUT ROWID; CREATE VIRTUAL TABLE words USING fts5(body);
  INSERT INTO people VALUES (7);
  INSERT INTO "odd ""name""" (v, "full name", person) VALUES
    (1, 'Ä''b', 7), (NULL, NULL, 999), (x'00ff27', 'line
break', NULL), (1e308 * 10, 'nul' || char(0) || 'inside', 7), (0.1, '', 7), (-9223372036854775808, CAST(x'c328' AS TEXT), 7);
  DELETE FROM "odd ""name""" WHERE k = 6; INSERT INTO plain (rowid, x) VALUES (5, 'a'), (50, 'b'); INSERT INTO keyed VALUES (1, 2), (0, 2);
  INSERT INTO words (rowid, body) VALUES (3, 'the quick fox'), (9, 'the dog')`;

/** What of a table can be told apart. */
function rowsOf(file: string, table: string, rowid = ""): unknown[] {
  const database = new Database(file, { readonly: true });
  try {
    const columns = database.prepare<[string], string>("SELECT name FROM pragma_table_xinfo(?)").pluck().all(table);
    const told = columns.map((name) => `quote("${name.replaceAll('"', '""')}"), hex("${name.replaceAll('"', '""')}")`);
    const from = `"${table.replaceAll('"', '""')}"`;
    return database
      .prepare(`SELECT ${rowid} ${told.join(", ")} FROM ${from}`)
      .raw()
      .all();
  } finally {
    database.close();
  }
}

function objectsOf(file: string): unknown[] {
  const database = new Database(file, { readonly: true });
  try {
    return database.prepare("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL").raw().all();
  } finally {
    database.close();
  }
}

test.for(["UTF-8", "UTF-16le", "UTF-16be"])(
  "rows, schema, indexes of one table, as a database and as SQL, %s",
  async (encoding) => {
    const source = bench.source("app.db", 4096, encoding);
    await bench.commit(source, SCHEMA);
    const primary = path.join(bench.directory, "primary", "app.db");
    const name = 'odd "name"';
    const target = bench.newTarget();
    const report = await bench.restore({ target, tables: { names: [name, "PLAIN", "keyed"], format: "db" } });
    expect(report.tables).toEqual([
      { database: "app.db", name, rows: 5, file: "odd__name_.db", leftOut: ["trigger watch"] },
      { database: "app.db", name: "PLAIN", rows: 2, file: "PLAIN.db", leftOut: [] },
      { database: "app.db", name: "keyed", rows: 2, file: "keyed.db", leftOut: [] },
    ]);
    expect(fs.readdirSync(target).toSorted()).toEqual(["PLAIN.db", "keyed.db", "odd__name_.db"]);
    expect(rowsOf(path.join(target, "odd__name_.db"), name)).toEqual(rowsOf(primary, name));
    expect(
      execFileSync("sqlite3", [path.join(target, "odd__name_.db"), "SELECT seq FROM sqlite_sequence"]).toString(),
    ).toBe("6\n");
    expect(rowsOf(path.join(target, "PLAIN.db"), "plain", "rowid,")).toEqual(rowsOf(primary, "plain", "rowid,"));
    expect(rowsOf(path.join(target, "keyed.db"), "keyed")).toEqual(rowsOf(primary, "keyed"));
    expect(objectsOf(path.join(target, "odd__name_.db"))).toMatchObject([
      ["table", name, expect.stringContaining("AUTOINCREMENT")],
      ["table", "sqlite_sequence", expect.anything()],
      ["index", "by_name", expect.stringContaining("WHERE v IS NOT NULL")],
    ]);
    const asSql = bench.newTarget();
    await bench.restore({ target: asSql, tables: { names: [name, "keyed"], format: "sql" } });
    const made = path.join(bench.directory, "made.db");
    for (const file of fs.readdirSync(asSql)) {
      execFileSync("sqlite3", [made], { input: fs.readFileSync(path.join(asSql, file)) });
    }
    expect(rowsOf(made, name)).toEqual(rowsOf(path.join(target, "odd__name_.db"), name));
    expect(rowsOf(made, "keyed")).toEqual(rowsOf(primary, "keyed"));
    expect(objectsOf(made)).toContainEqual(["index", "by_name", expect.anything()]);
    expect(execFileSync("sqlite3", [made, "SELECT seq FROM sqlite_sequence"]).toString()).toBe("6\n");
  },
);

test("full-text tables come with their row numbers", async () => {
  const source = bench.source();
  await bench.commit(source, SCHEMA);
  const target = bench.newTarget();
  expect(await bench.restore({ target, tables: { names: ["words"], format: "db" } })).toMatchObject({
    tables: [{ rows: 2 }],
  });
  const database = new Database(path.join(target, "words.db"));
  expect(database.prepare("SELECT rowid FROM words WHERE words MATCH 'dog'").pluck().all()).toEqual([9]);
  database.close();
});

test("a table that is not there, several databases, and an index that needs the application", async () => {
  const source = bench.source();
  source.connection.function("mine", { deterministic: true }, (value) => value);
  await bench.commit(source, `${SCHEMA}; CREATE INDEX own ON plain (mine(x))`);
  const one = (names: readonly string[]): ReturnType<typeof bench.restore> =>
    bench.restore({ tables: { names, format: "db" } });
  expect(await one(["plain"])).toMatchObject({ tables: [{ rows: 2, leftOut: ["index own"] }] });
  await expect(one(["plian"])).rejects.toMatchObject({
    code: "USAGE",
    message: expect.stringContaining("did you mean plain?"),
    hint: expect.stringContaining("keyed"),
  });
  await bench.commit(bench.source("other.db"), "CREATE TABLE plain (x)", { name: "other.db" });
  await expect(one(["plain"])).rejects.toMatchObject({ code: "USAGE", hint: expect.stringContaining("other.db") });
  const report = await bench.restore({ databases: ["other.db"], tables: { names: ["plain"], format: "db" } });
  expect(report).toMatchObject({ databases: [{ name: "other.db" }], tables: [{ rows: 0 }] });
  expect(bench.leftInTargets()).toEqual(["restored-1", "restored-1/plain.db", "restored-4", "restored-4/plain.db"]);
});
