/** (c) Sustained WAL bytes until applied, beside a plain synced write of the same bytes. (e) Bytes shipped by a repair. */
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";

import Database from "better-sqlite3";

import { tidemark } from "./process.ts";
import { startSubject, TITLES } from "./subjects.ts";
import { mebibytes, percent, ratio, type Table } from "./table.ts";
import { Workspace } from "./workspace.ts";

const PAGE_BYTES = 4096;

export async function sustained(options: { mebibytes: number }): Promise<Table> {
  const rows: string[][] = [];
  const plain = plainWrite(options.mebibytes);
  rows.push(["write and fsync the same bytes", mebibytes(plain), "1.00 ×"]);
  for (const name of ["embedded", "nats"] as const) {
    const rate = await applied(name, options.mebibytes);
    rows.push([TITLES[name], mebibytes(rate), ratio(rate, plain)]);
  }
  return {
    title: "Sustained writes",
    method:
      `MiB of WAL a second, from the first commit until the last of ${options.mebibytes} MiB (incompressible rows, 1 MiB a commit) can be read ` +
      "on the standby; beside a sequential write of the same bytes with one fsync a MiB.",
    columns: ["", "MiB/s", "of a plain write"],
    rows,
  };
}

/** Bytes a second. */
function plainWrite(size: number): number {
  using workspace = new Workspace();
  const fd = fs.openSync(workspace.path("plain"), "w");
  const block = randomBytes(2 ** 20);
  const startedMs = performance.now();
  for (let i = 0; i < size; i += 1) {
    fs.writeSync(fd, block);
    fs.fdatasyncSync(fd);
  }
  const bytes = (size * 2 ** 20) / ((performance.now() - startedMs) / 1000);
  fs.closeSync(fd);
  return bytes;
}

async function applied(name: "embedded" | "nats", size: number): Promise<number> {
  using workspace = new Workspace();
  const file = workspace.database("app.db");
  await using subject = await startSubject(name, workspace.directory, [file]);
  const db = new Database(file, { timeout: 30_000 });
  const standby = new Database(subject.standbyOf(file) ?? "", { readonly: true });
  const insert = db.prepare("INSERT INTO bench (writer, v) VALUES (0, randomblob(262144))");
  const commit = db.transaction(() => [1, 2, 3, 4].map(() => insert.run().lastInsertRowid).at(-1));
  const startedMs = performance.now();
  let last: number | bigint = 0;
  for (let i = 0; i < size; i += 1) {
    last = commit() ?? 0;
    await new Promise((resolve) => setImmediate(resolve));
  }
  const newest = standby.prepare("SELECT max(n) FROM bench").pluck();
  while (Number(newest.get()) < Number(last)) await new Promise((resolve) => setTimeout(resolve, 5));
  const bytes = (size * 2 ** 20) / ((performance.now() - startedMs) / 1000);
  db.close();
  standby.close();
  return bytes;
}

export async function repair(options: { mebibytes: number }): Promise<Table> {
  using workspace = new Workspace();
  const file = workspace.database("app.db", { rows: options.mebibytes * 256, rowBytes: 3900 });
  const databaseBytes = fs.statSync(file).size;
  await (await startSubject("embedded", workspace.directory, [file]))[Symbol.asyncDispose]();
  changePages(file, Math.round(databaseBytes / PAGE_BYTES / 100));
  const standby = `${workspace.directory}/standby`;
  const before = logBytes(standby);
  await using _run = tidemark(["run", "--set", "bench", "--db", file, "--standby", standby]);
  await _run.says("ready");
  const shipped = logBytes(standby) - before;
  return {
    title: "Repairing a gap",
    method:
      "The agent is down while 1 % of the pages, picked at random, change and the WAL restarts. Bytes appended to the log by the repair, as it accounts for them.",
    columns: ["database MiB", "changed", "shipped MiB", "of the database"],
    rows: [[mebibytes(databaseBytes), "1 %", mebibytes(shipped), percent(shipped / databaseBytes)]],
  };
}

export function changePages(file: string, count: number): void {
  const db = new Database(file);
  const rows = Number(db.prepare("SELECT max(n) FROM bench").pluck().get());
  const update = db.prepare("UPDATE bench SET v = randomblob(3900) WHERE n = ?");
  db.transaction(() => {
    for (let i = 0; i < count; i += 1) update.run(1 + Math.floor(Math.random() * rows));
  })();
  db.pragma("wal_checkpoint(TRUNCATE)");
  db.close();
}

/** Encoded bytes of all records: what `log --json` says of each event. */
function logBytes(standby: string): number {
  const args = ["dist/cli/main.js", "log", "--standby", standby, "--set", "bench", "--json"];
  const { stdout } = spawnSync(process.execPath, args, {
    encoding: "utf8",
    maxBuffer: 2 ** 30,
    cwd: `${import.meta.dirname}/../..`,
  });
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .reduce((sum, line) => sum + (JSON.parse(line) as { bytes: number }).bytes, 0);
}
