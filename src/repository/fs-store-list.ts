import type { Dirent } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";

import { errnoOf } from "../runtime/errors.ts";
import { isObjectName, type ObjectInfo } from "./object-store.ts";

export interface Listing {
  readonly prefix: string;
  readonly after: string;
  readonly signal: AbortSignal;
}

/** Files looked at side by side. */
const LOOKS = 64;

/** All objects below `root`, one directory at a time, in the order of their whole names. */
export async function* listFiles(root: string, listing: Listing): AsyncGenerator<ObjectInfo, void, void> {
  yield* listBelow(root, "", listing);
}

/** `folder` is "" or ends in a slash. */
async function* listBelow(root: string, folder: string, listing: Listing): AsyncGenerator<ObjectInfo, void, void> {
  const names = await namesIn(root, folder);
  let files: string[] = [];
  for (const name of names.filter((one) => inListing(one, listing))) {
    if (!name.endsWith("/")) files.push(name);
    if (files.length < LOOKS && !name.endsWith("/")) continue;
    yield* look(root, files, listing);
    files = [];
    if (name.endsWith("/")) yield* listBelow(root, name, listing);
  }
  yield* look(root, files, listing);
}

/** Whole names, of directories with a slash behind: "a-b" comes before "a/b", as among the objects. */
async function namesIn(root: string, folder: string): Promise<string[]> {
  const entries = await entriesOf(path.join(root, folder));
  return entries
    .filter((entry) => (entry.isDirectory() || entry.isFile()) && isObjectName(entry.name))
    .map((entry) => `${folder}${entry.name}${entry.isDirectory() ? "/" : ""}`)
    .sort(byBytes);
}

/** Names are ASCII, so the order of code units is the order of bytes. */
export function byBytes(one: string, other: string): number {
  if (one === other) return 0;
  return one < other ? -1 : 1;
}

async function entriesOf(directory: string): Promise<Dirent[]> {
  try {
    return await fs.readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}

export function inListing(name: string, { prefix, after }: Listing): boolean {
  if (!name.endsWith("/")) return name.startsWith(prefix) && name > after;
  const wanted = name.startsWith(prefix) || prefix.startsWith(name);
  return wanted && (name > after || after.startsWith(name));
}

async function* look(root: string, names: string[], { signal }: Listing): AsyncGenerator<ObjectInfo, void, void> {
  signal.throwIfAborted();
  const found = await Promise.all(names.map(async (name) => ({ name, bytes: await sizeOf(path.join(root, name)) })));
  for (const { name, bytes } of found) {
    signal.throwIfAborted();
    // Removed since the directory was read.
    if (bytes !== undefined) yield { name, bytes };
  }
}

async function sizeOf(file: string): Promise<number | undefined> {
  try {
    return (await fs.stat(file)).size;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
