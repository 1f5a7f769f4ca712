import fs from "node:fs";

import type { TreeConfig } from "../config/config.ts";
import { realPath } from "../config/real-path.ts";
import { formatSize } from "../config/units.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import { mayChangeOwners } from "../tree/metadata.ts";
import { fail, type Finding, ok, warn } from "./finding.ts";

const WATCHES = "/proc/sys/fs/inotify/max_user_watches";
const SLASH = Buffer.from("/");

interface Counted {
  files: number;
  bytes: number;
  directories: number;
  /** Not captured: FIFOs, sockets, devices. */
  others: number;
  unreadable: number;
}

export interface CheckedTrees {
  readonly findings: readonly Finding[];
  /** What a copy takes. */
  readonly bytes: number;
}

/** What file trees hold, and whether they can be read and watched. What is excluded is counted, too. */
export function checkTrees(trees: readonly TreeConfig[]): CheckedTrees {
  const findings: Finding[] = [];
  let bytes = 0;
  let directories = 0;
  for (const tree of trees) {
    try {
      const counted = count(tree.path);
      bytes += counted.bytes;
      directories += counted.directories;
      findings.push(ok("TREE", said(tree, counted)), ...concerns(tree.name, counted));
    } catch (error) {
      findings.push(fail(notReadable(tree, error)));
    }
  }
  return { findings: [...findings, ...checkWatches(directories, watchLimit())], bytes };
}

/** Only root gives files away. The agent of a standby runs as whoever may. */
export function checkOwners(standby: string): Finding {
  if (mayChangeOwners) return ok("STANDBY_OWNERS", `files keep their owners on the standby ${standby}`);
  return warn(
    "STANDBY_OWNERS",
    `this user is not root: on the standby ${standby} all files belong to it, whoever owns them on the primary`,
    "Run the standby's agent as root, unless one owner is right there.",
  );
}

function said({ name, path: root }: TreeConfig, { files, bytes, directories }: Counted): string {
  const real = realPath(root);
  const place = real === root ? root : `${root} (which is ${real})`;
  if (directories === 0) return `${name}: ${place} is a file and can be read`;
  return `${name}: ${place} has ${files} files in ${directories} directories, ${formatSize(bytes)}`;
}

function concerns(name: string, { others, unreadable }: Counted): Finding[] {
  const findings: Finding[] = [];
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

/** The limit is one for all that a user watches; undefined where the system does not tell. */
export function checkWatches(directories: number, limit: number | undefined): Finding[] {
  if (directories === 0 || limit === undefined) return [];
  const text = `the trees have ${directories} directories; one user may watch ${limit} here`;
  if (directories <= limit) return [ok("TREE_WATCHES", text)];
  return [
    warn(
      "TREE_WATCHES",
      `${text}: they are looked at in turns instead`,
      `Raise it: \`sysctl -w fs.inotify.max_user_watches=${2 * directories}\`.`,
    ),
  ];
}

function watchLimit(): number | undefined {
  try {
    return Number(fs.readFileSync(WATCHES, "latin1"));
  } catch {
    return undefined;
  }
}

function count(root: string): Counted {
  const counted: Counted = { files: 0, bytes: 0, directories: 0, others: 0, unreadable: 0 };
  const stat = fs.statSync(root);
  if (stat.isDirectory()) {
    countIn(Buffer.from(root), fs.readdirSync(root, LISTED), counted);
  } else if (stat.isFile()) {
    fs.accessSync(root, fs.constants.R_OK);
    counted.files = 1;
    counted.bytes = stat.size;
  } else {
    throw new TidemarkError("CONFIG", `${root} is neither a directory nor a file`, {
      hint: "Name a directory of the application's, or a file.",
    });
  }
  return counted;
}

/** Names are bytes: they need not be text. */
const LISTED = { withFileTypes: true, encoding: "buffer" } as const;

function countIn(directory: Buffer, entries: readonly fs.Dirent<Buffer>[], counted: Counted): void {
  counted.directories += 1;
  for (const entry of entries) {
    try {
      countEntry(Buffer.concat([directory, SLASH, entry.name]), entry, counted);
    } catch (error) {
      // What is gone by now was the application's to remove.
      if (errnoOf(error) !== "ENOENT" && errnoOf(error) !== "ENOTDIR") counted.unreadable += 1;
    }
  }
}

function countEntry(place: Buffer, entry: fs.Dirent<Buffer>, counted: Counted): void {
  if (entry.isDirectory()) return countIn(place, fs.readdirSync(place, LISTED), counted);
  if (entry.isSymbolicLink()) return;
  if (!entry.isFile()) return void (counted.others += 1);
  fs.accessSync(place, fs.constants.R_OK);
  counted.files += 1;
  counted.bytes += fs.lstatSync(place).size;
}

function notReadable({ name, path: root }: TreeConfig, error: unknown): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const why = errnoOf(error) === "ENOENT" ? "is not there" : `cannot be read (${errnoOf(error) ?? String(error)})`;
  return new TidemarkError("TREE_MISSING", `tree ${name}: ${root} ${why}`, {
    hint: "Correct its path, make or mount it, or give this user the right to read it.",
    cause: error,
  });
}
