import fs from "node:fs";
import path from "node:path";

import { syncDirectory } from "./durable-directory.ts";
import { errnoOf } from "./errors.ts";

/** Puts a file in place as a whole, so that it survives a power cut: whoever reads it has the one before or this one. */
export function replaceFile(file: string, content: string | Uint8Array, { mode }: { readonly mode: number }): void {
  const next = `${file}.new`;
  fs.rmSync(next, { force: true });
  const fd = fs.openSync(next, "wx", mode);
  try {
    fs.writeFileSync(fd, content);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  fs.renameSync(next, file);
  syncDirectory(path.dirname(file));
}

/** Undefined when it is not there. */
export function readIfThere(file: string): string | undefined {
  try {
    return fs.readFileSync(file, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
