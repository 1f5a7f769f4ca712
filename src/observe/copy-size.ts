import fs from "node:fs";

import type { Config } from "../config/config.ts";
import { formatSize } from "../config/units.ts";
import { TidemarkError } from "../runtime/errors.ts";

/** Bytes that one full copy of the databases takes at most: the files and what is still in their WALs. */
export function copyBytes(databases: Config["databases"]): number {
  return databases.reduce((sum, { path }) => sum + sizeOf(path) + sizeOf(`${path}-wal`), 0);
}

/** What cannot be looked at is refused elsewhere, with the reason. */
function sizeOf(file: string): number {
  try {
    return fs.statSync(file).size;
  } catch {
    return 0;
  }
}

/** A log that cannot hold one copy can never restore anything. @throws CONFIG */
export function requireRoomForCopy(log: Config["log"], needed: number): void {
  if (log?.kind !== "nats" || log.maxBytes === undefined || needed <= log.maxBytes) return;
  throw new TidemarkError(
    "CONFIG",
    `nats.maxBytes is ${formatSize(log.maxBytes)}, but one copy of the set takes ${formatSize(needed)}`,
    { hint: "Raise nats.maxBytes to several times the size of the set, or leave it out." },
  );
}
