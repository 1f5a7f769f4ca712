import { isUtf8 } from "node:buffer";

import { fsPath, type TreePath } from "../../event/tree-path.ts";
import { errnoOf } from "../../runtime/errors.ts";
import { readXattrs } from "../../tree/xattrs.ts";
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
    if (!found || isWithinLimit(found)) return found;
    problems.add(path, `has more than ${MAX_BYTES} bytes of extended attributes: they are not captured`);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ENOTDIR") return "changed";
    const why = error instanceof Error ? error.message : String(error);
    problems.add(path, `its extended attributes cannot be read, and are not captured: ${why}`);
  }
  return undefined;
}

export function isWithinLimit(xattrs: ReadonlyMap<string, Uint8Array>): boolean {
  let bytes = 0;
  for (const [name, value] of xattrs) bytes += Buffer.byteLength(name) + value.length + 16;
  return bytes <= MAX_BYTES;
}
