import Database from "better-sqlite3";

/** A read transaction of ours that keeps frames from being overwritten. */
export class Pin {
  readonly #connection: Database.Database;
  readonly #begin: Database.Statement;
  readonly #read: Database.Statement;
  readonly #end: Database.Statement;

  constructor(databasePath: string) {
    this.#connection = openQuietly(databasePath);
    this.#begin = this.#connection.prepare("BEGIN");
    // Reads page 1 and needs no schema: works on a database whose schema SQLite would refuse to parse.
    this.#read = this.#connection.prepare("PRAGMA schema_version").pluck();
    this.#end = this.#connection.prepare("COMMIT");
  }

  /**
   * Before the first `acquire`: gives back the twenty pages that SQLite sets aside for each connection's cache, and lets it
   * keep none; a pin only ever reads page 1. The setting makes SQLite read the schema, which is forgotten again.
   */
  slim(): void {
    try {
      this.#connection.pragma("cache_size=1");
      this.#connection.pragma("writable_schema=RESET");
      this.#connection.pragma("shrink_memory");
    } catch {
      // A schema that this SQLite cannot read, or a lock: then the pin is as large as any connection.
    }
  }

  get held(): boolean {
    return this.#connection.inTransaction;
  }

  acquire(): void {
    this.#begin.run();
    try {
      this.#read.get();
    } catch (error) {
      this.release();
      throw error;
    }
  }

  release(): void {
    if (this.held) this.#end.run();
  }

  close(): void {
    this.release();
    this.#connection.close();
  }
}

/** A connection that leaves the app alone: no waiting inside a call, no checkpoint of ours as a side effect. */
export function openQuietly(databasePath: string): Database.Database {
  const connection = new Database(databasePath, { fileMustExist: true, timeout: 0 });
  connection.pragma("wal_autocheckpoint=0");
  return connection;
}
