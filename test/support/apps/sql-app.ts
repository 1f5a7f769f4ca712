// A program under test: an application whose every step a test decides. One JSON request a line on stdin, one answer a
// line on stdout. Carries better-sqlite3's SQLite; sql-app.py is the same with the system's.
// node sql-app.ts DATABASE
import { createInterface } from "node:readline";

import Database from "better-sqlite3";

import type { SqlAnswer, SqlRequest } from "./sql-session.ts";

const path = process.argv[2] ?? "";
let database: Database.Database | undefined;

function connect(): Database.Database {
  // Connected, but nothing read yet.
  database ??= new Database(path, { timeout: 5000 });
  return database;
}

function run(sql: string): unknown[][] {
  const connection = connect();
  const trimmed = sql.trim();
  // Several statements, or one that gives no rows.
  if (trimmed.slice(0, -1).includes(";")) {
    connection.exec(trimmed);
    return [];
  }
  const statement = connection.prepare(trimmed);
  if (statement.reader) return statement.raw().all() as unknown[][];
  statement.run();
  return [];
}

function answer({ sql, action }: SqlRequest): SqlAnswer {
  try {
    if (action === "connect") connect();
    if (action === "disconnect") {
      database?.close();
      database = undefined;
    }
    return { rows: sql === undefined ? [] : run(sql) };
  } catch (error) {
    return { error: String(error) };
  }
}

createInterface(process.stdin).on("line", (line) => {
  process.stdout.write(`${JSON.stringify(answer(JSON.parse(line) as SqlRequest))}\n`);
});
