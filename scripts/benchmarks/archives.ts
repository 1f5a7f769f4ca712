/** What has brought a database, and then updates of it, to a place from which it can be restored: Tidemark and its peers. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

import { Child, litestream, program, tidemark, tidemarkOutput, usageOf } from "./process.ts";
import { startSubject } from "./subjects.ts";
import { bytesUnder } from "./trees.ts";
import { pause, type Workspace } from "./workspace.ts";

export const RESTIC_ENV = { RESTIC_PASSWORD: "benchmark" };
const READY_MS = 600_000;

export interface Updates {
  readonly count: number;
  /** A second. */
  readonly rate: number;
}

/** A place to restore from. */
export interface Archive {
  readonly title: string;
  /** Bytes that the updates added to it; NaN before there were any. */
  readonly addedBytes: number;
  /** Of the process that wrote it, at its peak; NaN when nobody looked. */
  readonly peakBytes: number;
  /** What a restore reads. */
  readonly place: string;
  /** A command that restores into a directory that is not there. */
  readonly restore: (target: string) => Child;
}

/** `mebibytes` of incompressible rows, and 100,000 small rows that can be updated. */
export function updatableDatabase(workspace: Workspace, mebibytes: number): string {
  const file = workspace.database("app.db", { rows: mebibytes * 256, rowBytes: 3900 });
  const db = new Database(file);
  db.exec(`CREATE TABLE small (n INTEGER PRIMARY KEY, changes INTEGER, note TEXT);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
    INSERT INTO small SELECT i, 0, hex(randomblob(50)) FROM n;
    PRAGMA wal_checkpoint(TRUNCATE)`);
  db.close();
  return file;
}

/** What is captured, and where everything about it lies. */
export interface Source {
  readonly directory: string;
  /** A database, or a tree. */
  readonly place: string;
}

/** A base, and what `updates` of the database add. Returns when all is in the repository. */
export async function archivedByTidemark({ directory, place }: Source, updates?: Updates): Promise<Archive> {
  const standby = path.join(directory, "standby");
  const repository = path.join(directory, "repository");
  const flag = fs.statSync(place).isDirectory() ? "--files" : "--db";
  await using run = tidemark(["run", "--set", "bench", flag, place, "--standby", standby, "--repository", repository]);
  await run.says("ready", READY_MS);
  const where = ["--set", "bench", "--standby", standby];
  await baseIsThere(where);
  const before = bytesUnder(repository);
  if (updates) {
    await updated(place, updates);
    await archived(where);
  }
  return {
    title: "Tidemark",
    addedBytes: updates ? bytesUnder(repository) - before : NaN,
    peakBytes: usageOf(run.pid).peakRssBytes,
    place: repository,
    restore: (target) => tidemark(["restore", "--repository", repository, "--no-log", "--target", target, "--json"]),
  };
}

interface Status {
  readonly log: { readonly last: number };
  readonly repositories: readonly {
    readonly base: object | null;
    readonly archived: { readonly offset: number } | null;
    readonly requests: number;
  }[];
}

export async function statusOf(where: readonly string[]): Promise<Status> {
  return JSON.parse(await tidemarkOutput(["status", ...where, "--json"])) as Status;
}

export async function baseIsThere(where: readonly string[]): Promise<void> {
  await until(async () => Boolean((await statusOf(where)).repositories[0]?.base));
}

/** Everything that was committed before. */
export async function archived(where: readonly string[]): Promise<void> {
  await tidemarkOutput(["sync", ...where]);
  const { last } = (await statusOf(where)).log;
  await until(async () => ((await statusOf(where)).repositories[0]?.archived?.offset ?? 0) >= last);
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + READY_MS;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error("it never came");
    await pause(500);
  }
}

async function updated(file: string, { count, rate }: Updates): Promise<void> {
  await program("updates.ts", [file, String(count), String(rate)]).ended();
}

/** A snapshot, and the WAL of `updates`. */
export async function archivedByLitestream({ directory, place }: Source, updates?: Updates): Promise<Archive> {
  await using subject = await startSubject("litestream", directory, [place]);
  const replica = path.join(subject.replica ?? "", path.basename(place));
  const before = bytesUnder(replica);
  if (updates) {
    await updated(place, updates);
    await pause(3000);
  }
  const peakBytes = usageOf(subject.processes[0]?.pid ?? 0).peakRssBytes;
  return {
    title: "Litestream 0.3.13",
    addedBytes: updates ? bytesUnder(replica) - before : NaN,
    peakBytes,
    place: replica,
    restore: (target) => {
      fs.mkdirSync(target);
      return litestream(["restore", "-o", path.join(target, "app.db"), `file://${replica}`]);
    },
  };
}

/** One backup of a file or a directory, as it is. */
export function archivedByRestic(source: string, repository: string): Archive {
  const common = ["--repo", repository, "--no-cache", "--quiet"];
  const restic = (...args: string[]): void =>
    void execFileSync("restic", [...common, ...args], { env: { ...process.env, ...RESTIC_ENV } });
  restic("init");
  restic("backup", source);
  return {
    title: "restic 0.14.0",
    addedBytes: NaN,
    peakBytes: NaN,
    place: repository,
    restore: (target) => new Child("restic", [...common, "restore", "latest", "--target", target], RESTIC_ENV),
  };
}
