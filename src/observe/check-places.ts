import fs from "node:fs";
import path from "node:path";

import { formatSize } from "../config/units.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import { fail, type Finding, ok, warn } from "./finding.ts";

/** A directory that an agent makes and writes. Nothing is made here. */
export function checkWritable(code: string, what: string, directory: string): Finding {
  const existing = nearestExisting(directory);
  try {
    if (!fs.statSync(existing).isDirectory()) throw notWritable(what, directory, `${existing} is no directory`);
    fs.accessSync(existing, fs.constants.R_OK | fs.constants.W_OK | fs.constants.X_OK);
  } catch (error) {
    return fail(
      error instanceof TidemarkError
        ? error
        : notWritable(what, directory, `no rights on ${existing} (${errnoOf(error) ?? "unknown"})`),
    );
  }
  return ok(code, existing === directory ? `${what} ${directory} is writable` : `${what} ${directory} can be made`);
}

function notWritable(what: string, directory: string, why: string): TidemarkError {
  return new TidemarkError("CONFIG", `${what} ${directory} cannot be written: ${why}`, {
    hint: "Make the directory for the agent's user, or choose another.",
  });
}

function nearestExisting(directory: string): string {
  for (let at = directory; ; at = path.dirname(at)) {
    if (fs.existsSync(at) || path.dirname(at) === at) return at;
  }
}

/** One disk that fails must not take primary and standby together. `needed`: bytes of one copy. */
export function checkStandbyDisk(standby: string, sources: readonly string[], needed: number): Finding[] {
  const disk = deviceOf(nearestExisting(standby));
  const together = sources.find((source) => deviceOf(source) === disk && disk !== undefined);
  const room = freeBytes(nearestExisting(standby));
  const findings: Finding[] = [];
  if (together !== undefined) {
    findings.push(
      warn(
        "STANDBY_SAME_DISK",
        `the standby ${standby} is in the same file system as ${together}: one failing disk takes both`,
        "Put the standby on another disk, or on another host with `tidemark replica`.",
      ),
    );
  }
  if (room !== undefined && room < 2 * needed) {
    findings.push(
      warn(
        "STANDBY_ROOM",
        `${formatSize(room)} are free where the standby is, one copy takes ${formatSize(needed)} and the log as much again`,
        "Free space there, or choose a larger disk.",
      ),
    );
  }
  return findings;
}

function deviceOf(file: string): number | undefined {
  return fs.statSync(file, { throwIfNoEntry: false })?.dev;
}

function freeBytes(directory: string): number | undefined {
  try {
    const { bavail, bsize } = fs.statfsSync(directory);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}
