import fs from "node:fs";
import path from "node:path";

import type { DatabaseConfig, DatabasePattern, TreeConfig } from "./config.ts";
import { requireDatabaseName, SQLITE_COMPANIONS } from "./database-name.ts";
import { realPath } from "./real-path.ts";
import { namesCollide } from "./tree-list.ts";

const WILDCARD = /[*?[\]{}]/;

export function hasWildcard(text: string): boolean {
  return WILDCARD.test(text);
}

/** The deepest directory that a pattern names without a wildcard. */
export function baseDirectory({ directory, pattern }: DatabasePattern): string {
  const parts = pattern.split("/").slice(0, -1);
  const plain = parts.findIndex(hasWildcard);
  const leading = (plain < 0 ? parts : parts.slice(0, plain)).join("/");
  return path.resolve(directory, leading === "" && pattern.startsWith("/") ? "/" : leading);
}

/** Whether only the last part of a pattern has wildcards: then all it can match lies in its base directory. */
export function isFlat({ pattern }: DatabasePattern): boolean {
  return !hasWildcard(path.dirname(pattern));
}

/** Files that match now, SQLite's own files beside them left out. In the order of their paths. */
export function matchingFiles({ directory, pattern }: DatabasePattern): string[] {
  return fs
    .globSync(pattern, { cwd: directory })
    .filter((match) => !SQLITE_COMPANIONS.test(match))
    .map((match) => path.resolve(directory, match))
    .toSorted();
}

export function matchesPattern({ directory, pattern }: DatabasePattern, file: string): boolean {
  if (SQLITE_COMPANIONS.test(file)) return false;
  return path.matchesGlob(path.isAbsolute(pattern) ? file : path.relative(directory, file), pattern);
}

/** What a pattern may match and is no database of the application's. */
export interface NotDatabases {
  /** Directories of Tidemark's own. */
  readonly own: readonly string[];
  readonly trees: readonly TreeConfig[];
}

/** What is known of the databases of a set, to tell what may join it. */
export class DatabaseNames {
  readonly #byName = new Map<string, string>();
  readonly #byFile = new Map<string, string>();
  readonly #paths = new Set<string>();
  readonly #own: readonly string[];
  readonly #trees: readonly TreeConfig[];
  readonly #treePaths: ReadonlySet<string>;

  constructor({ own, trees }: NotDatabases) {
    this.#own = own.map(realPath);
    this.#trees = trees;
    this.#treePaths = new Set(trees.map((tree) => realPath(tree.path)));
  }

  /** Path of the database that has this name. */
  ownerOf(name: string): string | undefined {
    return this.#byName.get(name);
  }

  /** Path under which this very file is in the set. */
  twinOf(file: string): string | undefined {
    return this.#byFile.get(realPath(file));
  }

  /** Name of the database under whose name `name` would lie, as if that were a directory. */
  nestedUnder(name: string): string | undefined {
    const parts = name.split("/");
    const above = parts.slice(1).map((_, index) => parts.slice(0, index + 1).join("/"));
    return above.find((prefix) => this.#byName.has(prefix));
  }

  add({ name, path: file }: DatabaseConfig): void {
    this.#byName.set(name, file);
    this.#byFile.set(realPath(file), file);
    this.#paths.add(file);
  }

  /** The database that a pattern found in `file`; undefined when it is in the set already, or none of the app's. */
  admit(found: DatabasePattern, file: string): { database: DatabaseConfig } | { refusal: string } | undefined {
    // Asked of every file at every scan: the set's own ones must cost nothing.
    if (this.#paths.has(file)) return undefined;
    if (!isFile(file) || this.twinOf(file) !== undefined || this.#isNoDatabase(file)) return undefined;
    const name = found.name ?? path.basename(file);
    const tree = this.#trees.find((one) => namesCollide(one.name, name));
    const owner = tree?.path ?? this.ownerOf(name) ?? this.ownerOf(this.nestedUnder(name) ?? "");
    if (owner !== undefined) {
      return {
        refusal: `${file} is not captured: ${owner} has the name ${JSON.stringify(name)} on the standby already`,
      };
    }
    try {
      requireDatabaseName(name, file);
    } catch (error) {
      return { refusal: `${file} is not captured: ${error instanceof Error ? error.message : String(error)}` };
    }
    return { database: { path: file, name, byPattern: true } };
  }

  #isNoDatabase(file: string): boolean {
    const real = realPath(file);
    return this.#treePaths.has(real) || this.#own.some((directory) => real.startsWith(directory + path.sep));
  }
}

/** Not when it may not be looked at either. */
function isFile(file: string): boolean {
  try {
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}
