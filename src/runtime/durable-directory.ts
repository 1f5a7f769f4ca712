import fs from "node:fs";
import path from "node:path";

import { errnoOf } from "./errors.ts";

/**
 * Makes a directory and what is missing above it, so that it is there after a power cut: what is synced in a directory
 * is lost with the directory's own name. One that is there already may have been made a moment before the power went.
 */
export function makeDirectory(directory: string, options: { readonly mode?: number } = {}): void {
  const made = fs.mkdirSync(directory, { ...options, recursive: true });
  const first = path.dirname(path.resolve(made ?? directory));
  for (let parent = path.dirname(path.resolve(directory)); ; parent = path.dirname(parent)) {
    syncParent(parent);
    if (parent === first || parent === path.dirname(parent)) return;
  }
}

/** Makes the names in a directory durable as they are. */
export function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** Where we may not read we have made nothing. */
function syncParent(directory: string): void {
  try {
    syncDirectory(directory);
  } catch (error) {
    if (errnoOf(error) !== "EACCES") throw error;
  }
}
