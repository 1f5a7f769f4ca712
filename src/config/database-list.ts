import fs from "node:fs";
import path from "node:path";

import type { DatabaseConfig } from "./config.ts";
import { configError } from "./config-error.ts";

/** A database as somebody named it, on the command line or in the file. */
export interface GivenDatabase {
  readonly path: string;
  readonly name: string | undefined;
  /** Relative paths count from here. */
  readonly directory: string;
  /** `--db "tenants/*.db"` or `tidemark.yml:3: databases[0]`, for messages. */
  readonly where: string;
}

const SQLITE_COMPANIONS = /-(wal|shm|journal)$/;

/** `PATH` or `PATH=NAME`. A file that exists under the whole text is meant as it stands. */
export function parseDatabaseFlag(text: string, directory: string): GivenDatabase {
  const where = `--db ${JSON.stringify(text)}`;
  if (text === "") throw configError(`${where}: names no database`, "Write --db PATH or --db PATH=NAME.");
  const at = text.lastIndexOf("=");
  if (at < 0 || fs.existsSync(path.resolve(directory, text))) return { path: text, name: undefined, directory, where };
  if (at === 0) throw configError(`${where}: names no database`, "Write --db PATH or --db PATH=NAME.");
  return { path: text.slice(0, at), name: text.slice(at + 1), directory, where };
}

/**
 * Globs expanded, names given and checked. With `mustMatch` a pattern without a match is a fault; on a host that does not
 * have the databases it is none.
 *
 * @throws CONFIG
 */
export function expandDatabases(given: readonly GivenDatabase[], mustMatch: boolean): readonly DatabaseConfig[] {
  const all = given.flatMap((one) => expandOne(one, mustMatch));
  const byName = new Map<string, string>();
  const byFile = new Map<string, string>();
  for (const { name, path: file } of all) {
    const other = byName.get(name);
    const twin = byFile.get(realPath(file));
    if (twin !== undefined) throw configError(`${twin} and ${file} are the same database`, "Name it once.");
    if (other !== undefined) {
      throw configError(
        `the databases ${other} and ${file} would both be called ${JSON.stringify(name)} on the standby`,
        `Name one of them: --db ${file}=NAME, or { path: ${file}, name: NAME } in tidemark.yml.`,
      );
    }
    byName.set(name, file);
    byFile.set(realPath(file), file);
  }
  for (const { name, path: file } of all) refuseNested(name, file, byName);
  return all;
}

function expandOne(given: GivenDatabase, mustMatch: boolean): DatabaseConfig[] {
  const file = path.resolve(given.directory, given.path);
  if (!/[*?[\]{}]/.test(given.path) || fs.existsSync(file)) return [named(given, file)];
  const found = fs
    .globSync(given.path, { cwd: given.directory })
    .map((match) => path.resolve(given.directory, match))
    .filter((match) => !SQLITE_COMPANIONS.test(match) && fs.statSync(match, { throwIfNoEntry: false })?.isFile())
    .toSorted();
  if (found.length === 0 && mustMatch) {
    throw configError(`${given.where}: nothing matches ${file}`, "Correct the pattern, or start the application once.");
  }
  if (given.name !== undefined && found.length > 1) {
    throw configError(
      `${given.where}: one name, ${JSON.stringify(given.name)}, for the ${found.length} databases that match`,
      "Leave the name out, so that each has its file's name, or list them one by one.",
    );
  }
  return found.map((match) => named(given, match));
}

function named(given: GivenDatabase, file: string): DatabaseConfig {
  return { path: file, name: requireDatabaseName(given.name ?? path.basename(file), given.where) };
}

/** The name becomes a path under the standby and under a restore's target. */
function requireDatabaseName(name: string, where: string): string {
  const parts = name.split("/");
  const fault =
    [
      [name === "", "it is empty"],
      [parts.some((part) => part === "" || part === "." || part === ".."), "it must be a plain relative path"],
      [parts[0] === ".tidemark", "Tidemark keeps its own state there"],
      // eslint-disable-next-line no-control-regex
      [/[\0-\x1f\\]/.test(name), "it holds a control character or a backslash"],
      [parts.some((part) => Buffer.byteLength(part) > 200), "it is too long for a file name"],
      [SQLITE_COMPANIONS.test(name), "SQLite keeps files with such names beside a database"],
    ].find(([faulty]) => faulty === true)?.[1] ?? undefined;
  if (fault === undefined) return name;
  throw configError(
    `${where}: ${JSON.stringify(name)} cannot name a database on the standby: ${String(fault)}`,
    "Give another: --db PATH=NAME.",
  );
}

function refuseNested(name: string, file: string, byName: ReadonlyMap<string, string>): void {
  const parts = name.split("/");
  const above = parts.slice(1).map((_, index) => parts.slice(0, index + 1).join("/"));
  const parent = above.find((prefix) => byName.has(prefix));
  if (parent === undefined) return;
  throw configError(
    `the name ${JSON.stringify(name)} of ${file} lies under ${JSON.stringify(parent)}, which is a database itself`,
    `Give another: --db ${file}=NAME.`,
  );
}

/** With symbolic links resolved as far as the path exists. */
export function realPath(file: string): string {
  try {
    return fs.realpathSync(file);
  } catch {
    const parent = path.dirname(file);
    return parent === file ? file : path.join(realPath(parent), path.basename(file));
  }
}
