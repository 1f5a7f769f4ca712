/** A directory for one measurement, removed afterwards, with databases in it. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import Database from "better-sqlite3";

export class Workspace implements Disposable {
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-bench-"));

  path(name: string): string {
    return path.join(this.directory, name);
  }

  /** A database in WAL mode with `rows` rows of `rowBytes` incompressible bytes. */
  database(name: string, size: { rows: number; rowBytes: number } = { rows: 1000, rowBytes: 1000 }): string {
    const file = this.path(name);
    const db = new Database(file);
    db.pragma("journal_mode=WAL");
    db.exec("CREATE TABLE bench (n INTEGER PRIMARY KEY, writer INTEGER, v BLOB)");
    const insert = db.prepare("INSERT INTO bench (writer, v) VALUES (0, randomblob(?))");
    for (let done = 0; done < size.rows;) {
      const until = Math.min(done + 10_000, size.rows);
      db.transaction(() => {
        for (; done < until; done += 1) insert.run(size.rowBytes);
      })();
    }
    db.close();
    return file;
  }

  [Symbol.dispose](): void {
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

export async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
