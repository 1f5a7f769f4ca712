import path from "node:path";

import { findOpenFile, shownProcess } from "../runtime/open-by-process.ts";
import { TidemarkError } from "../runtime/errors.ts";

/**
 * Before --force takes a directory away: who has files open below it? `ownWork`: a directory of the restore's own in there.
 *
 * @throws DATABASE_BUSY naming the process and the file
 */
export function requireUnused(directory: string, ownWork?: string): void {
  const belongs = (file: string): boolean =>
    file.startsWith(directory + path.sep) && !(ownWork !== undefined && file.startsWith(ownWork + path.sep));
  const found = findOpenFile(belongs);
  if (!found) return;
  throw new TidemarkError("DATABASE_BUSY", `${found.file} is open in ${shownProcess(found)}`, {
    hint: "Stop what uses the target before replacing it, or restore to another directory.",
  });
}
