import Database from "better-sqlite3";

/** A page that differs between two images of a database. */
export interface ChangedPage {
  readonly pageNumber: number;
  readonly data: Uint8Array;
}

/** A real database in WAL mode whose pages are compared after each transaction: what a capture would ship. */
export class ImagedDatabase {
  readonly connection: Database.Database;
  readonly pageSize: number;
  #image = new Uint8Array();

  constructor(path: string, pageSize: number, encoding = "UTF-8") {
    this.connection = new Database(path);
    this.connection.pragma(`page_size=${pageSize}`);
    this.connection.pragma(`encoding="${encoding}"`);
    this.connection.pragma("journal_mode=WAL");
    this.connection.exec("CREATE TABLE IF NOT EXISTS tidemark_test_first (x)");
    this.pageSize = pageSize;
  }

  get sizePages(): number {
    return this.#image.length / this.pageSize;
  }

  get image(): Uint8Array {
    return this.#image;
  }

  /** Pages changed since the last call; all of them at the first. */
  changes(): ChangedPage[] {
    const now = new Uint8Array(this.connection.serialize());
    const changed: ChangedPage[] = [];
    for (let start = 0; start < now.length; start += this.pageSize) {
      const data = now.subarray(start, start + this.pageSize);
      const old = this.#image.subarray(start, start + this.pageSize);
      if (Buffer.compare(data, old) !== 0) changed.push({ pageNumber: start / this.pageSize + 1, data });
    }
    this.#image = now;
    return changed;
  }

  allPages(): ChangedPage[] {
    this.#image = new Uint8Array();
    return this.changes();
  }

  close(): void {
    this.connection.close();
  }
}
