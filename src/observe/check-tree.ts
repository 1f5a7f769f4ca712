import fs from "node:fs";

import type { TreeConfig } from "../config/config.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import { fail, type Finding, ok, warn } from "./finding.ts";

const WATCHES = "/proc/sys/fs/inotify/max_user_watches";
const SLASH = Buffer.from("/");

interface Counted {
  files: number;
  directories: number;
  /** Not captured: FIFOs, sockets, devices. */
  others: number;
  unreadable: number;
}

/** What a file tree holds, and whether it can be read and watched. What is excluded is counted, too. */
export function checkTree({ name, path: root }: TreeConfig): Finding[] {
  try {
    const stat = fs.statSync(root);
    if (!stat.isDirectory()) {
      fs.accessSync(root, fs.constants.R_OK);
      return [ok("TREE", `${name}: ${root} is a file and can be read`)];
    }
    const counted = count(root);
    return [
      ok("TREE", `${name}: ${root} has ${counted.files} files in ${counted.directories} directories`),
      ...concerns(name, counted),
    ];
  } catch (error) {
    return [fail(notReadable(name, root, error))];
  }
}

function concerns(name: string, { directories, others, unreadable }: Counted): Finding[] {
  const findings: Finding[] = [];
  const watches = Number(fs.readFileSync(WATCHES, "latin1"));
  if (directories > watches) {
    const text = `${name} has ${directories} directories, and one user may watch ${watches} here: they are looked at in turns instead`;
    findings.push(
      warn("TREE_WATCHES", text, `Raise it: \`sysctl -w fs.inotify.max_user_watches=${2 * directories}\`.`),
    );
  }
  if (others > 0) {
    const text = `${name} holds ${others} FIFOs, sockets or devices: they are not captured`;
    findings.push(warn("TREE_SPECIAL", text, "Nothing needs to be done if the application makes them at its start."));
  }
  if (unreadable > 0) {
    const text = `${name} holds ${unreadable} files or directories that this user may not read: they are not captured`;
    findings.push(warn("TREE_UNREADABLE", text, "Run the agent as a user who may, and `check` as that user."));
  }
  return findings;
}

function count(root: string): Counted {
  const counted: Counted = { files: 0, directories: 0, others: 0, unreadable: 0 };
  countBelow(Buffer.from(root), counted);
  return counted;
}

/** Names are bytes: they need not be text. */
function countBelow(directory: Buffer, counted: Counted): void {
  counted.directories += 1;
  for (const entry of fs.readdirSync(directory, { withFileTypes: true, encoding: "buffer" })) {
    const place = Buffer.concat([directory, SLASH, entry.name]);
    if (entry.isDirectory() && isReadable(place)) countBelow(place, counted);
    else if (entry.isDirectory() || (entry.isFile() && !isReadable(place))) counted.unreadable += 1;
    else if (entry.isFile()) counted.files += 1;
    else if (!entry.isSymbolicLink()) counted.others += 1;
  }
}

function isReadable(place: Buffer): boolean {
  try {
    fs.accessSync(place, fs.constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function notReadable(name: string, root: string, error: unknown): TidemarkError {
  const why = errnoOf(error) === "ENOENT" ? "is not there" : `cannot be read (${errnoOf(error) ?? String(error)})`;
  return new TidemarkError("TREE_MISSING", `tree ${name}: ${root} ${why}`, {
    hint: "Correct its path, make or mount it, or give this user the right to read it.",
    cause: error,
  });
}
