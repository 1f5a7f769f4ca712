import fs from "node:fs";

import { errnoOf, TidemarkError } from "../runtime/errors.ts";

/** A program that checked a database for a restore which was killed ends within moments, and its files with it. */
const TRIES = 1000;

/**
 * Removes a directory and all below it, also when it holds directories that their owner may not write: those of a tree
 * come back with the permissions they had. And also beside a program that still makes and removes files in there: Node's
 * `rmSync` with `force` leaves the rest and says nothing when what it was about to remove is gone (24.21).
 */
export function removeWork(directory: string): void {
  for (let tries = 0; fs.existsSync(directory); tries += 1) {
    if (tries === TRIES) throw inUse(directory);
    try {
      removeOnce(directory);
    } catch (error) {
      if (errnoOf(error) !== "ENOTEMPTY") throw error;
    }
  }
}

function inUse(directory: string): TidemarkError {
  return new TidemarkError("IO", `${directory} cannot be removed: something goes on making files in it`, {
    hint: "Find out what (`lsof +D`), end it, and restore again.",
  });
}

function removeOnce(directory: string): void {
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
