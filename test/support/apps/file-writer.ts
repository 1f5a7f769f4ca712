// An application that writes a file and then commits a row that names it; later it deletes rows, and then their files.
// Usage: node file-writer.ts OPTIONS (JSON, see FileWriterOptions). Prints one line of JSON at the end.
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

import { Random } from "../random.ts";

export interface FileWriterOptions {
  readonly database: string;
  /** The file tree. */
  readonly root: string;
  /** Names its files and rows. */
  readonly writer: number;
  readonly commits: number;
  /** Between a file and the commit of its row. */
  readonly delayMs: number;
  /** A row is deleted when so many commits came after its first, half of the time the youngest of those. */
  readonly deleteAge: number;
}

export interface FileWriterReport {
  readonly written: number;
  readonly deleted: number;
}

/** What a file holds: one line that says of which row it is the content, and the hash of the bytes that follow. */
export function fileContent(name: string, version: number, random: Random): Buffer {
  const bytes = random.bytes(random.integer(1, 3000));
  return Buffer.concat([Buffer.from(`${name} ${version} ${hashOf(bytes)}\n`), bytes]);
}

/** Version of the row that a file's content belongs to; undefined when it is none, or not the whole one, that `name` ever had. */
export function versionOf(content: Uint8Array, name: string): number | undefined {
  const end = content.indexOf(10);
  const [of, version, hash] = Buffer.from(content.subarray(0, Math.max(0, end)))
    .toString()
    .split(" ");
  return of === name && hash === hashOf(content.subarray(end + 1)) ? Number(version) : undefined;
}

function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

const OLD_DIRECTORIES = 8;
const DELETE_SHARE = 0.2;

/** What the application has of a name. */
interface Known {
  readonly version: number;
  /** Number of the commit that made it. */
  readonly since: number;
}

class FileWriter {
  readonly #options: FileWriterOptions;
  readonly #random: Random;
  readonly #database: Database.Database;
  readonly #known = new Map<string, Known>();
  #number = 0;
  #deleted = 0;
  #newDirectory = "new";

  constructor(options: FileWriterOptions) {
    this.#options = options;
    this.#random = new Random(`file writer ${options.writer}`);
    this.#database = new Database(options.database, { timeout: 60_000 });
    this.#database.pragma("synchronous=OFF");
    for (let old = 0; old < OLD_DIRECTORIES; old += 1) fs.mkdirSync(this.#pathOf(`old-${old}`), { recursive: true });
  }

  run(): FileWriterReport {
    const sql = (text: string): Database.Statement => this.#database.prepare(text);
    const [put, remove] = [sql("INSERT OR REPLACE INTO files VALUES (?, ?)"), sql("DELETE FROM files WHERE name = ?")];
    const tell = sql("INSERT INTO changes (name, version) VALUES (?, ?)");
    const commitPut = this.#database.transaction((name: string, version: number) => {
      put.run(name, version);
      tell.run(name, version);
    });
    const commitRemoval = this.#database.transaction((name: string) => {
      remove.run(name);
      tell.run(name, null);
    });
    for (let commit = 0; commit < this.#options.commits; commit += 1) {
      const old = this.#pickOld(commit);
      if (old !== undefined && this.#random.next() < DELETE_SHARE) {
        commitRemoval.immediate(old);
        this.#pause();
        fs.unlinkSync(this.#pathOf(old));
        this.#known.delete(old);
        this.#deleted += 1;
        continue;
      }
      const name = old !== undefined && this.#random.next() < 0.3 ? old : this.#newName();
      const { version, since } = this.#known.get(name) ?? { version: 0, since: commit };
      this.#write(name, version + 1);
      this.#pause();
      commitPut.immediate(name, version + 1);
      this.#known.set(name, { version: version + 1, since });
    }
    this.#database.close();
    return { written: this.#options.commits - this.#deleted, deleted: this.#deleted };
  }

  #pickOld(commit: number): string | undefined {
    const old = [...this.#known].filter(([, { since }]) => commit - since > this.#options.deleteAge);
    const at = this.#random.next() < 0.5 ? old.length - 1 : this.#random.integer(0, Math.max(0, old.length - 1));
    return old[at]?.[0];
  }

  /** In an old directory, or in one that is made for it, up to three levels of them, or in the one that was made last. */
  #newName(): string {
    this.#number += 1;
    const { writer } = this.#options;
    const file = `${writer}-${this.#number}`;
    const where = this.#random.next();
    if (where < 0.5) return `old-${this.#random.integer(0, OLD_DIRECTORIES - 1)}/${file}`;
    if (where < 0.6 && this.#newDirectory !== "new") return path.join(this.#newDirectory, file);
    const levels = Array.from({ length: this.#random.integer(1, 3) }, (_, level) => `${file}-${level}`);
    this.#newDirectory = path.join("new", ...levels);
    return path.join(this.#newDirectory, file);
  }

  /** A new file in place or by rename; another version of one that a row names already only by rename: whole or not at all. */
  #write(name: string, version: number): void {
    const file = this.#pathOf(name);
    const content = fileContent(name, version, this.#random);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    if (version === 1 && this.#random.next() < 0.5) return fs.writeFileSync(file, content);
    fs.writeFileSync(`${file}.part`, content);
    fs.renameSync(`${file}.part`, file);
  }

  #pathOf(name: string): string {
    return path.join(this.#options.root, name);
  }

  #pause(): void {
    const { delayMs } = this.#options;
    if (delayMs > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, delayMs);
  }
}

if (import.meta.main) {
  const options = JSON.parse(process.argv[2] ?? "{}") as FileWriterOptions;
  process.stdout.write(`${JSON.stringify(new FileWriter(options).run())}\n`);
}
