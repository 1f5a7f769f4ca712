import { isUtf8 } from "node:buffer";
import fs from "node:fs";

import { fsPath, type TreePath } from "../../event/tree-path.ts";
import { readXattrs } from "../../tree/metadata.ts";
import type { TreeProblems } from "./tree-problems.ts";

/** Beside a list of chunks, or content, in one record. */
const MAX_BYTES = 128 * 1024;

/** Extended attributes of what is at a path; "changed": something else is there by now. */
export function readPathXattrs(
  root: string,
  path: TreePath,
  problems: TreeProblems,
): ReadonlyMap<string, Uint8Array> | undefined | "changed" {
  const file = fsPath(root, path);
  // The library takes names as text only.
  if (!isUtf8(file)) return undefined;
  try {
    const found = readXattrs(file.toString());
    if (!found || sizeOf(found) <= MAX_BYTES) return found;
    problems.add(path, `has more than ${MAX_BYTES} bytes of extended attributes: they are not captured`);
    return undefined;
  } catch {
    // Its errors have no code.
    return fs.lstatSync(file, { throwIfNoEntry: false }) ? undefined : "changed";
  }
}

function sizeOf(xattrs: ReadonlyMap<string, Uint8Array>): number {
  let bytes = 0;
  for (const [name, value] of xattrs) bytes += name.length + value.length + 16;
  return bytes;
}
