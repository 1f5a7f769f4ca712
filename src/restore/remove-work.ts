import fs from "node:fs";

import { errnoOf } from "../runtime/errors.ts";

/**
 * Removes a directory and all below it, also when it holds directories that their owner may not write: those of a tree
 * come back with the permissions they had.
 */
export function removeWork(directory: string): void {
  try {
    fs.rmSync(directory, { recursive: true, force: true });
  } catch (error) {
    if (errnoOf(error) !== "EACCES" && errnoOf(error) !== "EPERM") throw error;
    openUp(Buffer.from(directory));
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

/** Names are bytes: they need not be text. */
function openUp(directory: Buffer): void {
  fs.chmodSync(directory, 0o700);
  for (const entry of fs.readdirSync(directory, { withFileTypes: true, encoding: "buffer" })) {
    if (entry.isDirectory()) openUp(Buffer.concat([directory, SLASH, entry.name]));
  }
}

const SLASH = Buffer.from("/");
