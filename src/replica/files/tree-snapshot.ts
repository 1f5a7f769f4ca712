import Database from "better-sqlite3";

import { TreeIndex } from "../../tree/tree-index.ts";

/** The index of a standby's trees as it was at one moment, in a read transaction of its own. */
export class TreeSnapshot implements Disposable {
  readonly index: TreeIndex;
  readonly #database: Database.Database;

  constructor(file: string) {
    this.#database = new Database(file, { readonly: true, fileMustExist: true, timeout: 0 });
    try {
      this.#database.pragma("cache_size=-2048");
      // The first statement that reads fixes what all later ones see.
      this.#database.exec("BEGIN; SELECT count(*) FROM meta");
      this.index = new TreeIndex(this.#database);
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}
