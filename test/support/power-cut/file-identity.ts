import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

/** As capture tells one file from another that is put in its place. */
export function identityOf(file: string): string {
  const { dev, ino, birthtimeNs } = fs.statSync(file, { bigint: true });
  return `${dev}:${ino}:${birthtimeNs}`;
}

/**
 * A disk that comes back after a power cut has the same files, with their inodes and times of birth. An image of it cannot
 * have them: so what capture remembers of its database is told about the new one. `was`: before the cut.
 */
export function keepIdentity(of: { readonly state: string; readonly database: string }, was: string): void {
  const state = path.join(of.state, "capture.db");
  if (!fs.existsSync(state)) return;
  const database = new Database(state);
  try {
    if (!database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'positions'").get()) return;
    database.prepare("UPDATE positions SET file = ? WHERE file = ?").run(identityOf(of.database), was);
  } finally {
    database.close();
  }
}
