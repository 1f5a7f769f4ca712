import fs from "node:fs";
import path from "node:path";

import type { DatabaseConfig, DatabasePattern } from "./config.ts";
import { configError } from "./config-error.ts";
import { requireDatabaseName } from "./database-name.ts";
import { DatabaseNames, hasWildcard, matchingFiles, type NotDatabases } from "./database-patterns.ts";

/** A database as somebody named it, on the command line or in the file. */
export interface GivenDatabase {
  readonly path: string;
  readonly name: string | undefined;
  /** Relative paths count from here. */
  readonly directory: string;
  /** `--db "tenants/*.db"` or `tidemark.yml:3: databases[0]`, for messages. */
  readonly where: string;
}

export interface GivenList {
  /** Listed ones first, then what the patterns match now. */
  readonly databases: readonly DatabaseConfig[];
  readonly patterns: readonly DatabasePattern[];
}

/**
 * Patterns expanded, names given and checked. Of several files that one name would fit, the first has it: what a pattern
 * finds comes and goes, and is no mistake of the user's; the agent warns of it.
 *
 * @throws CONFIG
 */
export function expandDatabases(given: readonly GivenDatabase[], others: NotDatabases): GivenList {
  const patterns = given.filter(isPattern).map(patternOf);
  const names = new DatabaseNames(others);
  const databases: DatabaseConfig[] = [];
  for (const one of given) if (!isPattern(one)) databases.push(addListed(names, one));
  for (const { name, path: file } of databases) refuseNested(names, name, file);
  for (const pattern of patterns) {
    for (const file of matchingFiles(pattern)) {
      const admitted = names.admit(pattern, file);
      if (!admitted || !("database" in admitted)) continue;
      names.add(admitted.database);
      databases.push(admitted.database);
    }
  }
  return { databases, patterns };
}

function isPattern(given: GivenDatabase): boolean {
  return hasWildcard(given.path) && !fs.existsSync(path.resolve(given.directory, given.path));
}

function patternOf({ path: pattern, name, directory, where }: GivenDatabase): DatabasePattern {
  if (name !== undefined) requireDatabaseName(name, where);
  return { pattern, directory, name, where };
}

function addListed(names: DatabaseNames, given: GivenDatabase): DatabaseConfig {
  const file = path.resolve(given.directory, given.path);
  const name = requireDatabaseName(given.name ?? path.basename(file), given.where);
  const twin = names.twinOf(file);
  if (twin !== undefined) throw configError(`${twin} and ${file} are the same database`, "Name it once.");
  const other = names.ownerOf(name);
  if (other !== undefined) {
    throw configError(
      `the databases ${other} and ${file} would both be called ${JSON.stringify(name)} on the standby`,
      `Name one of them: --db ${file}=NAME, or { path: ${file}, name: NAME } in tidemark.yml.`,
    );
  }
  names.add({ path: file, name });
  return { path: file, name };
}

function refuseNested(names: DatabaseNames, name: string, file: string): void {
  const parent = names.nestedUnder(name);
  if (parent === undefined) return;
  throw configError(
    `the name ${JSON.stringify(name)} of ${file} lies under ${JSON.stringify(parent)}, which is a database itself`,
    `Give another: --db ${file}=NAME.`,
  );
}
