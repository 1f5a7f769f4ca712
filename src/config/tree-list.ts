import fs from "node:fs";
import path from "node:path";

import type { DatabaseConfig, TreeConfig } from "./config.ts";
import { configError } from "./config-error.ts";
import { requireName } from "./database-name.ts";
import { realPath } from "./real-path.ts";

/** More than this share of a tree gone in one scan is taken for an accident. */
export const DEFAULT_MAX_DELETE = 0.5;

/** A file tree as somebody named it, on the command line or in the file. */
export interface GivenTree {
  readonly path: string;
  readonly name: string | undefined;
  readonly exclude?: readonly string[] | undefined;
  readonly include?: readonly string[] | undefined;
  readonly maxDelete?: number | undefined;
  /** Relative paths count from here. */
  readonly directory: string;
  /** `--files uploads` or `tidemark.yml:3: files[0]`, for messages. */
  readonly where: string;
}

export interface Neighbours {
  readonly databases: readonly DatabaseConfig[];
  readonly standby: string | undefined;
  /** Tidemark's own directories: what they hold is never the application's. */
  readonly own: readonly string[];
}

/** `PATH` or `PATH=NAME`. What exists under the whole text is meant as it stands. */
export function parseNamedPath(
  flag: string,
  text: string,
  directory: string,
): { path: string; name: string | undefined; directory: string; where: string } {
  const where = `${flag} ${JSON.stringify(text)}`;
  const at = text.lastIndexOf("=");
  if (text === "" || at === 0) throw configError(`${where}: names nothing`, `Write ${flag} PATH or ${flag} PATH=NAME.`);
  if (at < 0 || fs.existsSync(path.resolve(directory, text))) return { path: text, name: undefined, directory, where };
  return { path: text.slice(0, at), name: text.slice(at + 1), directory, where };
}

/** With names, which databases found by patterns leave to them. Nothing has to exist yet. @throws CONFIG */
export function nameTrees(given: readonly GivenTree[]): readonly TreeConfig[] {
  return given.map(treeOf);
}

/** Trees that cannot be captured beside each other, the listed databases and what is Tidemark's. @throws CONFIG */
export function refuseWrongTrees(trees: readonly TreeConfig[], neighbours: Neighbours): void {
  trees.forEach((tree, index) => {
    const before = trees.slice(0, index);
    refuseOwnDirectories(tree, neighbours);
    refuseSameName(tree, [...neighbours.databases, ...before]);
    refuseSamePlace(tree, { trees: before, databases: neighbours.databases });
  });
}

function treeOf({ path: given, name, exclude, include, maxDelete, directory, where }: GivenTree): TreeConfig {
  const root = path.resolve(directory, given);
  return {
    path: root,
    name: requireName(name ?? path.basename(root), { where, what: "a file tree", flag: "--files" }),
    exclude: exclude ?? [],
    include: include ?? [],
    maxDeleteShare: maxDelete ?? DEFAULT_MAX_DELETE,
  };
}

function refuseOwnDirectories({ path: root, name }: TreeConfig, { own, standby }: Neighbours): void {
  const real = realPath(root);
  const holder = own.find((directory) => isWithin(real, realPath(directory)));
  if (holder !== undefined) {
    throw configError(
      `${root} lies in ${holder}, where Tidemark keeps its own files`,
      "Name a directory of the application's.",
    );
  }
  if (standby === undefined || realPath(path.join(standby, name)) !== real) return;
  throw configError(
    `the standby ${standby} would keep its copy of ${root} in the very place of ${root}`,
    "Give the standby a directory of its own, best on another disk or host.",
  );
}

function refuseSameName(tree: TreeConfig, others: readonly { readonly name: string; readonly path: string }[]): void {
  const twin = others.find(({ name }) => namesCollide(tree.name, name));
  if (!twin) return;
  throw configError(
    `${tree.path} and ${twin.path} would both lie at ${JSON.stringify(twin.name)} on the standby`,
    `Name one of them: --files ${tree.path}=NAME, or { path: ${tree.path}, name: NAME } in tidemark.yml.`,
  );
}

/** A database in a tree is left out of it; what is twice in the set would be restored twice. */
function refuseSamePlace(
  tree: TreeConfig,
  { trees, databases }: { trees: readonly TreeConfig[]; databases: readonly DatabaseConfig[] },
): void {
  const real = realPath(tree.path);
  const other = trees.find(({ path: root }) => isWithin(real, realPath(root)) || isWithin(realPath(root), real));
  if (other) {
    throw configError(
      `${tree.path} and ${other.path} are the same files`,
      "Name the outer one only, or trees that lie side by side.",
    );
  }
  if (!databases.some(({ path: file }) => realPath(file) === real)) return;
  throw configError(
    `${tree.path} is a database of the set`,
    "Databases are captured by commits; leave it out of files.",
  );
}

/** One would be at, or under, the place of the other. */
export function namesCollide(one: string, other: string): boolean {
  return isWithin(one, other) || isWithin(other, one);
}

/** Of paths and of names. */
function isWithin(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer === "/" ? outer : `${outer}/`);
}
