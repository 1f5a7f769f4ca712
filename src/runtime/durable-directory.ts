import { spawn } from "node:child_process";
import { once } from "node:events";
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

/** Makes a file's content and metadata durable. */
export function syncFile(file: string): void {
  const fd = openReadable(file);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

export async function syncDescriptor(fd: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    fs.fsync(fd, (error) => (error ? reject(error) : resolve()));
  });
}

/** To sync it. It may have been given permissions with which not even its owner may open it. */
export function openReadable(file: string | Buffer): number {
  try {
    return fs.openSync(file, "r");
  } catch (error) {
    if (errnoOf(error) !== "EACCES") throw error;
    const mode = fs.statSync(file).mode & 0o7777;
    fs.chmodSync(file, mode | 0o400);
    try {
      return fs.openSync(file, "r");
    } finally {
      fs.chmodSync(file, mode);
    }
  }
}

/** All of the file system that holds a directory, by syncfs(2) with the `sync` of coreutils or busybox; false where none can. */
export async function syncFileSystem(directory: string): Promise<boolean> {
  const child = spawn("sync", ["-f", directory], { stdio: "ignore" });
  try {
    const [code] = (await once(child, "close")) as [number | null];
    return code === 0;
  } catch {
    return false;
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
