import fs from "node:fs";
import path from "node:path";

import { TidemarkError } from "../runtime/errors.ts";

/**
 * Before --force takes a directory away: who has files open below it? As far as this process may look (Linux: its own
 * user's processes, all of them as root); elsewhere nothing is found. `ownWork`: a directory of the restore's own in there.
 *
 * @throws DATABASE_BUSY naming the process and the file
 */
export function requireUnused(directory: string, ownWork?: string): void {
  const belongs = (file: string): boolean =>
    file.startsWith(directory + path.sep) && !(ownWork !== undefined && file.startsWith(ownWork + path.sep));
  for (const process of entries("/proc").filter((name) => /^\d+$/.test(name))) {
    const file = openFiles(process).find(belongs);
    if (file !== undefined) throw inUse(file, process);
  }
}

function openFiles(process: string): string[] {
  const directory = `/proc/${process}/fd`;
  return entries(directory).map((fd) => {
    try {
      return fs.readlinkSync(path.join(directory, fd));
    } catch {
      return "";
    }
  });
}

/** A process may end at any moment, or be somebody else's. */
function entries(directory: string): string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    return [];
  }
}

function inUse(file: string, process: string): TidemarkError {
  let command = "";
  try {
    command = fs.readFileSync(`/proc/${process}/comm`, "utf8").trim();
  } catch {
    // It has ended meanwhile.
  }
  return new TidemarkError(
    "DATABASE_BUSY",
    `${file} is open in process ${process}${command === "" ? "" : ` (${command})`}`,
    {
      hint: "Stop what uses the target before replacing it, or restore to another directory.",
    },
  );
}
