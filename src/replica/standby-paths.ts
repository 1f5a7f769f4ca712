import fs from "node:fs";
import path from "node:path";

import { makeDirectory } from "../runtime/durable-directory.ts";
import { TidemarkError } from "../runtime/errors.ts";

/** Where a standby keeps its own things, below its root. */
export const STATE_DIRECTORY = ".tidemark";

export interface StandbyPaths {
  readonly root: string;
  readonly state: string;
  /** Page images of large transactions. */
  readonly spool: string;
  /** New versions of files until they are put in their place. */
  readonly stage: string;
  /** Index of the trees. */
  readonly files: string;
  /** Databases that a reseed replaced, until the new ones are in place. */
  readonly aside: string;
}

/** Makes the directories. The spool of an earlier run is emptied: nothing in it outlives its process. */
export function prepareStandby(directory: string): StandbyPaths {
  const root = path.resolve(directory);
  const state = path.join(root, STATE_DIRECTORY);
  const spool = path.join(state, "spool");
  makeDirectory(root);
  const stage = path.join(state, "stage");
  makeDirectory(spool, { mode: 0o700 });
  makeDirectory(stage, { mode: 0o700 });
  return { root, state, spool, stage, files: path.join(state, "trees.db"), aside: path.join(state, "aside") };
}

/**
 * Path of a database on the standby; its directory is made. Names come out of the log, so they are not to be trusted.
 * @throws RECORD_INVALID when the name would leave the standby, or meet Tidemark's or SQLite's own files
 */
export function databasePath(paths: Pick<StandbyPaths, "root">, name: string): string {
  const problem = nameProblem(name);
  if (problem) throw refused(name, problem);
  const file = path.join(paths.root, name);
  const parent = path.dirname(file);
  makeDirectory(parent);
  const relative = path.relative(fs.realpathSync(paths.root), fs.realpathSync(parent));
  if (relative === ".." || relative.startsWith(`..${path.sep}`) || path.isAbsolute(relative)) {
    throw refused(name, "a symbolic link on its way leads out of the standby");
  }
  if (fs.lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink())
    throw refused(name, "it is a symbolic link there");
  return file;
}

function nameProblem(name: string): string | undefined {
  const parts = name.split("/");
  if (name.includes("\0") || name.includes("\\")) return "it contains a character that is not allowed";
  if (parts.some((part) => part === "" || part === "." || part === "..")) return "it is not a plain relative path";
  if (parts[0] === STATE_DIRECTORY) return `${STATE_DIRECTORY} is Tidemark's own`;
  if (/-(wal|shm|journal)$|\.tidemark-new$/.test(name)) return "it ends like a companion file of a database";
  return undefined;
}

function refused(name: string, problem: string): TidemarkError {
  return new TidemarkError("RECORD_INVALID", `the log names a database ${JSON.stringify(name)}: ${problem}`, {
    hint: "Correct its name in the configuration of the capture agent, or remove what stands in its way on the standby.",
  });
}
