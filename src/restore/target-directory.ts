import fs from "node:fs";
import path from "node:path";

import { type ByteString, shownPath } from "../event/tree-path.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";

/** A restore works in a directory with this in its name; what it replaced without restoring it is kept under the other. */
export const WORK_INFIX = "tidemark-restore-";
export const KEPT_NAME = "before-restore";

export interface TargetDirectory {
  /** Absolute; symbolic links followed. */
  readonly path: string;
  readonly state: "absent" | "empty" | "occupied";
  /**
   * Where the work directory goes. beside: the whole result becomes the target by one rename. inside: for a mount point or
   * a parent that may not be written; then each entry is renamed on its own.
   */
  readonly work: "beside" | "inside";
}

/** Looks only. @throws USAGE for something that no restore may replace */
export function inspectTarget(directory: string): TargetDirectory {
  const found = resolved(path.resolve(directory));
  refuseStandby(found);
  const stat = fs.statSync(found, { throwIfNoEntry: false });
  if (!stat) return { path: found, state: "absent", work: "beside" };
  if (!stat.isDirectory()) throw notDirectory(found);
  const state = contentOf(found).length === 0 ? "empty" : "occupied";
  return { path: found, state, work: isReplaceable(found, stat) ? "beside" : "inside" };
}

/**
 * Names of what counts as content, one character per byte: not what every new file system has, and not a restore's own
 * work.
 */
export function contentOf(directory: string): ByteString[] {
  return fs
    .readdirSync(directory, { encoding: "latin1" })
    .filter((name) => name !== "lost+found" && !name.startsWith(`.${WORK_INFIX}`));
}

/** @throws TARGET_NOT_EMPTY */
export function requireFree(target: TargetDirectory, force: boolean): void {
  if (target.state !== "occupied" || force) return;
  const content = contentOf(target.path);
  const shown = content.slice(0, 3).map(shownPath).join(", ");
  throw new TidemarkError(
    "TARGET_NOT_EMPTY",
    `${target.path} is not empty: it holds ${shown}${content.length > 3 ? ` and ${content.length - 3} more` : ""}`,
    { hint: "Name an empty or new directory, or replace what is there with --force once no program uses it." },
  );
}

/** Follows links of the part that exists, so that a rename replaces the directory and not a link to it. */
function resolved(absolute: string): string {
  try {
    return fs.realpathSync(absolute);
  } catch (error) {
    if (errnoOf(error) === "ENOTDIR") throw notDirectory(path.dirname(absolute));
    if (errnoOf(error) !== "ENOENT") throw error;
    return path.join(resolved(path.dirname(absolute)), path.basename(absolute));
  }
}

function isReplaceable(directory: string, stat: fs.Stats): boolean {
  const parent = path.dirname(directory);
  if (parent === directory || fs.statSync(parent).dev !== stat.dev) return false;
  try {
    fs.accessSync(parent, fs.constants.W_OK | fs.constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A standby belongs to its replica, which would find strange files there. --force does not help. */
function refuseStandby(directory: string): void {
  for (let at = directory; ; at = path.dirname(at)) {
    if (fs.existsSync(path.join(at, ".tidemark"))) {
      throw new TidemarkError(
        "USAGE",
        `${directory} belongs to the standby ${at}, and a standby is only written by its replica`,
        {
          hint: "Name a directory outside of it. To build the standby anew run `tidemark replica --reseed`.",
        },
      );
    }
    if (path.dirname(at) === at) return;
  }
}

function notDirectory(found: string): TidemarkError {
  return new TidemarkError("USAGE", `${found} is not a directory`, {
    hint: "Name a directory with --target; it is made when it is missing.",
  });
}
