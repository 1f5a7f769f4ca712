import fs from "node:fs";

import Database from "better-sqlite3";

import type { LogEvent, PageImage } from "../../src/event/kinds.ts";
import type { TreePath } from "../../src/event/tree-path.ts";

/** What the log says up to an offset, event by event: one database and the files of one tree, kept in memory. */
export class LogFold {
  /** Whole contents; only of files small enough to be in their `file.put`. */
  readonly files = new Map<TreePath, Uint8Array>();
  readonly directories = new Set<TreePath>();
  /** By hash: what is known is not said again. */
  readonly #contents = new Map<string, Uint8Array>();
  #image = Buffer.alloc(0);
  #parts: PageImage[] = [];

  apply({ body }: LogEvent): void {
    switch (body.kind) {
      case "sqlite.part":
        if (body.sequence === 0) this.#parts = [];
        this.#parts.push(...body.pages);
        break;
      case "sqlite.commit":
        this.#commit(body.parts > 0 ? [...this.#parts, ...body.pages] : body.pages, body);
        break;
      case "file.put":
        if (this.directories.has(body.path)) this.#remove(body.path);
        if (body.data) this.#contents.set(hex(body.hash), body.data);
        this.files.set(body.path, this.#contents.get(hex(body.hash)) ?? new Uint8Array());
        break;
      case "dir.put":
        this.files.delete(body.path);
        this.directories.add(body.path);
        break;
      case "file.remove":
        this.files.delete(body.path);
        break;
      case "dir.remove":
        this.#remove(body.path);
        break;
      default:
    }
  }

  /** The rows of a query on the database as it is at this point. */
  rows<Row>(sql: string): Row[] {
    if (this.#image.length === 0) return [];
    const database = new Database(this.#image);
    try {
      return database.prepare<[], Row>(sql).all();
    } finally {
      database.close();
    }
  }

  #remove(path: TreePath): void {
    this.directories.delete(path);
    for (const one of this.directories) if (one.startsWith(`${path}/`)) this.directories.delete(one);
    for (const one of this.files.keys()) if (one.startsWith(`${path}/`)) this.files.delete(one);
  }

  #commit(pages: readonly PageImage[], { pageSize, sizePages }: { pageSize: number; sizePages: number }): void {
    const image = Buffer.alloc(sizePages * pageSize);
    this.#image.copy(image);
    for (const { pageNumber, data } of pages) {
      if (pageNumber <= sizePages) image.set(data, (pageNumber - 1) * pageSize);
    }
    // Not in WAL mode: a database in memory has none.
    image[18] = 1;
    image[19] = 1;
    this.#image = image;
  }
}

function hex(hash: Uint8Array): string {
  return Buffer.from(hash).toString("hex");
}

/** The files of a directory tree as they are now. */
export function filesBelow(root: string): Map<TreePath, Uint8Array> {
  const files = new Map<TreePath, Uint8Array>();
  for (const entry of fs.readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = `${entry.parentPath}/${entry.name}`;
    files.set(Buffer.from(file.slice(root.length + 1)).toString("latin1") as TreePath, fs.readFileSync(file));
  }
  return files;
}
