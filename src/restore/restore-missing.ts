import fs from "node:fs";
import path from "node:path";

import type { Config } from "../config/config.ts";
import { makeDirectory, syncDirectory } from "../runtime/durable-directory.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { errnoOf } from "../runtime/errors.ts";
import { readIfThere, replaceFile } from "../runtime/replace-file.ts";
import { restore, type RestoreOptions } from "./restore.ts";

const WORK_NAME = ".tidemark-restoring";

/** What of a set is not there. */
export interface Missing {
  readonly databases: Config["databases"];
  /** Of which nothing is there; only where no database is there either. */
  readonly trees: Config["trees"];
}

export interface RestoreMissingOptions extends Pick<
  RestoreOptions,
  "history" | "archive" | "clock" | "signal" | "onProgress"
> {
  readonly config: Config;
  readonly missing: Missing;
}

export interface RestoredMissing {
  readonly offset: number;
  readonly at: string;
  readonly names: readonly string[];
}

/** Databases that are not there, and, when none is, trees that are empty or were being put in place when the process was killed. */
export function missingOf({ databases, trees, state }: Config): Missing {
  const gone = databases.filter(({ path: file }) => !fs.existsSync(file));
  if (gone.length === 0 || gone.length < databases.length) return { databases: gone, trees: [] };
  const begun = new Set(readIfThere(noteFile(state))?.split("\n"));
  return { databases: gone, trees: trees.filter(({ path: root, name }) => begun.has(name) || isEmpty(root)) };
}

/**
 * Restores the newest point there is, verified, and puts what is missing where the application has it. Databases come last: as long as
 * one is missing the next start does it all again.
 */
export async function restoreMissing(options: RestoreMissingOptions): Promise<RestoredMissing> {
  const { config, missing } = options;
  const { databases, trees } = missing;
  // Beside the database, where it most likely fits, and becomes it by a rename.
  const beside = path.dirname(databases[0]?.path ?? config.state);
  const directory = path.join(beside, WORK_NAME);
  for (const needed of [beside, config.state]) makeDirectory(needed);
  const only = databases.length < config.databases.length;
  const report = await restore({
    ...options,
    target: { kind: "latest" },
    directory,
    databases: only ? databases.map(({ name }) => name) : undefined,
    check: "full",
    force: true,
    dryRun: false,
  });
  crashPoint("exec: restored");
  replaceFile(noteFile(config.state), trees.map(({ name }) => name).join("\n"), { mode: 0o600 });
  const placed = trees.filter((tree) => placeTree(directory, tree));
  crashPoint("exec: trees placed");
  const names = [...databases.filter((database) => placeDatabase(directory, database)), ...placed];
  fs.rmSync(noteFile(config.state), { force: true });
  fs.rmSync(directory, { recursive: true, force: true });
  return { offset: report.offset, at: report.at, names: names.map(({ name }) => name) };
}

function noteFile(state: string): string {
  return path.join(state, "restoring-trees");
}

function isEmpty(root: string): boolean {
  try {
    return fs.readdirSync(root).every((name) => name === "lost+found" || name === WORK_NAME);
  } catch (error) {
    return errnoOf(error) === "ENOENT";
  }
}

function placeDatabase(from: string, { name, path: file }: Config["databases"][number]): boolean {
  const restored = path.join(from, name);
  if (!fs.existsSync(restored)) return false;
  makeDirectory(path.dirname(file));
  // Of the database that is gone: SQLite would play it back over this one.
  for (const suffix of ["-wal", "-shm", "-journal"]) {
    if (fs.existsSync(file + suffix)) fs.renameSync(file + suffix, `${file}${suffix}.before-restore`);
  }
  moveTo(restored, file);
  return true;
}

/** Into a root that may be a mount point: one entry after the other. */
function placeTree(from: string, { name, path: root }: Config["trees"][number]): boolean {
  const restored = path.join(from, name);
  const stat = fs.lstatSync(restored, { throwIfNoEntry: false });
  if (!stat) return false;
  if (!stat.isDirectory() || !fs.existsSync(root)) {
    makeDirectory(path.dirname(root));
    moveTo(restored, root);
    return true;
  }
  for (const entry of fs.readdirSync(restored, { encoding: "buffer" })) {
    const to = joined(root, entry);
    fs.rmSync(to, { recursive: true, force: true });
    moveTo(joined(restored, entry), to);
  }
  const { mode, uid, gid, mtime, atime } = stat;
  fs.chmodSync(root, mode & 0o7777);
  if (process.getuid?.() === 0) fs.chownSync(root, uid, gid);
  fs.utimesSync(root, atime, mtime);
  return true;
}

function joined(directory: string, entry: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), entry]);
}

/** A rename, or a copy where the place is on another file system; there hard links become files of their own. */
function moveTo(from: string | Buffer, to: string | Buffer): void {
  try {
    fs.renameSync(from, to);
  } catch (error) {
    if (errnoOf(error) !== "EXDEV") throw error;
    copyTo(String(from), String(to));
  }
  syncDirectory(path.dirname(String(to)));
}

function copyTo(from: string, to: string): void {
  const beside = `${to}.tidemark-new`;
  fs.rmSync(beside, { recursive: true, force: true });
  fs.cpSync(from, beside, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  own(from, beside);
  fs.renameSync(beside, to);
}

/** Owners, and what is on the disk for certain. */
function own(from: string, to: string): void {
  const stat = fs.lstatSync(from);
  if (process.getuid?.() === 0) fs.lchownSync(to, stat.uid, stat.gid);
  if (stat.isDirectory()) for (const entry of fs.readdirSync(from)) own(path.join(from, entry), path.join(to, entry));
  if (!stat.isFile()) return;
  const file = fs.openSync(to, "r");
  fs.fsyncSync(file);
  fs.closeSync(file);
}
