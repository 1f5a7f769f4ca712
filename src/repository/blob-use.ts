import type Database from "better-sqlite3";

import type { PackedBlob } from "./pack.ts";
import type { BlobType } from "./sealer.ts";

const SCHEMA = `
  DROP TABLE IF EXISTS temp.needed;
  DROP TABLE IF EXISTS temp.there;
  DROP TABLE IF EXISTS temp.chosen;
  CREATE TEMP TABLE needed (id BLOB PRIMARY KEY, kept INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TEMP TABLE there (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
`;
/** Of several packs that hold a blob the one is chosen that stays, and that an index object names. */
const CHOOSE = `
  CREATE TEMP TABLE chosen AS
    SELECT blob.id, pack.id AS pack, blob.stored, needed.kept, min(
      (pack.name IN (SELECT name FROM marked)) * 4294967296
      + (NOT EXISTS (SELECT 1 FROM listing WHERE listing.pack = pack.id AND healed = 0)) * 8589934592 + pack.id) AS rank
    FROM needed JOIN blob ON blob.id = needed.id JOIN pack ON pack.id = blob.pack JOIN there ON there.name = pack.name
    GROUP BY blob.id;
  CREATE INDEX temp.chosen_pack ON chosen (pack);
`;

/** What a pack is needed for. */
export interface PackUse {
  readonly name: string;
  readonly bytes: number;
  /** Stored bytes of those of its blobs for which it is chosen. */
  readonly usedBytes: number;
  /** Of them, what those need that are kept. */
  readonly keptBytes: number;
}

/** Which blobs are needed, and so which packs: on the disk, as there may be many. Part of the index of blobs. */
export class BlobUse implements Disposable {
  readonly #database: Database.Database;
  readonly #insert: Database.Statement<[Uint8Array, number]>;

  constructor(database: Database.Database) {
    this.#database = database;
    database.exec(SCHEMA);
    this.#insert = database.prepare("INSERT OR IGNORE INTO needed VALUES (?, ?)");
  }

  /** A blob is needed. `kept`: by something that stays. Those that are come first. Returns whether it is new. */
  need(id: Uint8Array, kept: boolean): boolean {
    return this.#insert.run(id, kept ? 1 : 0).changes > 0;
  }

  /** Of all packs that an index object names; `there`: names of those that the store has. */
  packs(there: Iterable<string>): PackUse[] {
    const database = this.#database;
    database.transaction(() => {
      const insert = database.prepare("INSERT OR IGNORE INTO there VALUES (?)");
      for (const name of there) insert.run(name);
    })();
    database.exec(CHOOSE);
    return database
      .prepare<[], PackUse>(
        `SELECT name, bytes, coalesce(sum(stored), 0) AS usedBytes, coalesce(sum(stored * kept), 0) AS keptBytes
          FROM pack LEFT JOIN chosen ON chosen.pack = pack.id GROUP BY pack.id ORDER BY name`,
      )
      .all();
  }

  /** After `packs`: a blob that something needs that stays, and that no pack holds. */
  missing(): Uint8Array | undefined {
    const missing = "SELECT id FROM needed WHERE kept = 1 AND id NOT IN (SELECT id FROM chosen) LIMIT 1";
    return this.#database.prepare<[], Uint8Array>(missing).pluck().get();
  }

  /** After `packs`: those blobs of a pack for which it is chosen, and which something needs that stays. */
  keptIn(pack: string): PackedBlob[] {
    const rows = this.#database
      .prepare<[string], Row>(
        `SELECT blob.id, type, position, blob.stored, raw FROM pack JOIN chosen ON chosen.pack = pack.id
          JOIN blob ON blob.id = chosen.id AND blob.pack = pack.id WHERE pack.name = ? AND kept = 1 ORDER BY position`,
      )
      .all(pack);
    return rows.map(({ id, type, position, stored, raw }) => {
      return { id, type, position, storedBytes: stored, rawBytes: raw };
    });
  }

  /** Which index objects name which packs. */
  listings(): { readonly source: string; readonly pack: string }[] {
    return this.#database
      .prepare<[], { source: string; pack: string }>(
        "SELECT source, pack.name AS pack FROM listing JOIN pack ON pack.id = listing.pack",
      )
      .all();
  }

  [Symbol.dispose](): void {
    if (this.#database.open) this.#database.exec(SCHEMA);
  }
}

interface Row {
  readonly id: Uint8Array;
  readonly type: BlobType;
  readonly position: number;
  readonly stored: number;
  readonly raw: number;
}
