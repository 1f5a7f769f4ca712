import fs from "node:fs";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";

// P1: nothing is written to the application's database. The same application runs with agents and without; at the end
// both have the same files with the same bytes.

const SET_UP = [
  "PRAGMA page_size=8192",
  "PRAGMA auto_vacuum=INCREMENTAL",
  "PRAGMA encoding='UTF-16le'",
  "PRAGMA application_id=252006675",
  "PRAGMA user_version=4711",
  "PRAGMA journal_mode=WAL",
  "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL)",
  "CREATE INDEX items_by_name ON items (name)",
  "CREATE VIEW dear AS SELECT * FROM items WHERE price > 100",
  "CREATE TABLE history (id INTEGER, at INTEGER)",
  "CREATE TRIGGER remember AFTER UPDATE ON items BEGIN INSERT INTO history VALUES (new.id, new.price); END",
];
const PRAGMAS = [
  "page_size",
  "auto_vacuum",
  "encoding",
  "application_id",
  "user_version",
  "journal_mode",
  "schema_version",
  "freelist_count",
  "page_count",
  "secure_delete",
  "foreign_keys",
];

async function work(app: SqlSession, round: number): Promise<void> {
  await app.run(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO items (name, price) SELECT 'item ' || i || ' of ${round}', i * ${round} FROM n`,
  );
  await app.run(`UPDATE items SET price = price + 1 WHERE id % ${round + 2} = 0`);
  await app.run(`DELETE FROM items WHERE id % ${round + 5} = 0`);
  if (round === 3) await app.run("PRAGMA wal_checkpoint(TRUNCATE)");
  if (round === 5) await app.run("PRAGMA incremental_vacuum");
}

interface Left {
  readonly pragmas: unknown[];
  readonly schema: unknown[][];
  readonly files: string[];
  readonly bytes: Buffer;
}

/** Runs the application to its end and says what it left behind. `between` is called now and then. */
async function lifeOf(deployment: Deployment, between: (round: number) => Promise<void>): Promise<Left> {
  await using app = new SqlSession(deployment.database);
  for (const statement of SET_UP) await app.run(statement);
  for (let round = 1; round <= 8; round += 1) {
    await between(round);
    await work(app, round);
  }
  await between(9);
  const pragmas: unknown[] = [];
  for (const pragma of PRAGMAS) pragmas.push([pragma, await app.value(`PRAGMA ${pragma}`)]);
  const schema = await app.run("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema");
  await app.disconnect();
  return {
    pragmas,
    schema,
    files: fs.readdirSync(deployment.databaseDirectory).toSorted(),
    bytes: fs.readFileSync(deployment.database),
  };
}

test("an application that was replicated leaves the same bytes behind as one that never was", async () => {
  await using alone = new Deployment();
  const expected = await lifeOf(alone, async () => undefined);
  expect(expected.files).toEqual(["app.db"]);

  await using replicated = new Deployment();
  const differences: unknown[] = [];
  let stop: (() => Promise<unknown>) | undefined;
  const found = await lifeOf(replicated, async (round) => {
    if (round === 2 || round === 6) ({ stop } = await replicated.start("run"));
    if (round === 4) differences.push(await replicated.difference());
    if (round === 5) await stop?.();
    if (round === 9) {
      differences.push(await replicated.difference());
      await replicated.answer("mark", "end");
      await stop?.();
    }
  });
  expect(differences).toEqual([undefined, undefined]);
  expect(found.pragmas).toEqual(expected.pragmas);
  expect(found.schema).toEqual(expected.schema);
  expect(found.files).toEqual(expected.files);
  expect(found.bytes.subarray(0, 100)).toEqual(expected.bytes.subarray(0, 100));
  expect(found.bytes.equals(expected.bytes)).toBe(true);
});
