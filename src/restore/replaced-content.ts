import fs from "node:fs";
import path from "node:path";

import { bytesOf } from "../event/tree-path.ts";
import { syncDirectory } from "../runtime/durable-directory.ts";
import { removeWork } from "./remove-work.ts";
import { KEPT_NAME, type TargetDirectory } from "./target-directory.ts";

/**
 * Decides about what the target held before: removed when the restore brought all of it anew, kept beside otherwise,
 * because nobody asked to lose files that are not in the log. Returns where it is kept.
 */
export function keepUnlessReplaced(old: string, target: TargetDirectory): string | undefined {
  if (isReplaced(old, target.path)) {
    removeWork(old);
    return undefined;
  }
  return keep(old, target);
}

export function keep(old: string, target: TargetDirectory): string {
  const place = freeName(target.work === "inside" ? path.join(target.path, KEPT_NAME) : `${target.path}.${KEPT_NAME}`);
  fs.renameSync(old, place);
  syncDirectory(path.dirname(place));
  return place;
}

/** `name`, or `name-2`, `name-3` … when that is taken. */
export function freeName(name: string): string {
  let candidate = name;
  for (let n = 2; fs.existsSync(candidate); n += 1) candidate = `${name}-${n}`;
  return candidate;
}

/** Whether each file has a successor of its name, a database's companions that of the database; a symbolic link one of its kind. */
function isReplaced(old: string, now: string): boolean {
  return isEachReplaced(Buffer.from(old), Buffer.from(now));
}

/** Names are bytes: they need not be text. */
function isEachReplaced(old: Buffer, now: Buffer): boolean {
  return fs.readdirSync(old, { withFileTypes: true, encoding: "buffer" }).every((entry) => {
    const before = below(old, entry.name);
    if (entry.isDirectory()) return isEachReplaced(before, below(now, entry.name));
    if (!entry.isFile() && !entry.isSymbolicLink()) return false;
    const base = entry.name.toString("latin1").replace(/-(wal|shm|journal)$/, "");
    const successor = [entry.name, bytesOf(base)].map((name) => kindAt(below(now, name)));
    return successor.includes(entry.isFile() ? "file" : "link");
  });
}

function below(directory: Buffer, name: Buffer): Buffer {
  return Buffer.concat([directory, Buffer.from("/"), name]);
}

function kindAt(place: Buffer): "file" | "link" | undefined {
  const stat = fs.lstatSync(place, { throwIfNoEntry: false });
  return stat?.isFile() ? "file" : stat?.isSymbolicLink() ? "link" : undefined;
}
