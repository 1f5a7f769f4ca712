import fs, { constants } from "node:fs";

import { type ByteString, byteString } from "../../event/tree-path.ts";
import { holdFile, whereIs } from "./held-file.ts";

/**
 * Who may write in a tree may put a link where a directory was, at any moment: paths then lead out of the tree, perhaps to what
 * only the agent may read. So what was opened by a path is asked where it stands. Paths are absolute, without links above the tree.
 */
const hasProc = fs.existsSync("/proc/self/fd");

/** Whether an open file stands at just this path: no directory on the way was a link. */
export function standsAt(fd: number, file: Buffer): boolean {
  return !hasProc || whereIs(fd)?.file === byteString(file);
}

/** The same of what is there now, without opening it. */
export function isInPlace(file: Buffer): boolean {
  if (!hasProc) return true;
  const fd = holdFile(file);
  if (fd === undefined) return false;
  try {
    return standsAt(fd, file);
  } finally {
    fs.closeSync(fd);
  }
}

/** Undefined: another directory than this one is there, or a link. @throws what the system says */
export function namesIn(directory: Buffer): ByteString[] | undefined {
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  const fd = fs.openSync(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    if (!standsAt(fd, directory)) return undefined;
    return fs.readdirSync(hasProc ? `/proc/self/fd/${fd}/.` : directory, { encoding: "latin1" });
  } finally {
    fs.closeSync(fd);
  }
}
