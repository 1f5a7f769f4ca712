import { setImmediate as nextTurn } from "node:timers/promises";

import type Database from "better-sqlite3";

import type { PackedBlob } from "./pack.ts";
import type { BlobType } from "./sealer.ts";

const DROP = `
  DROP TABLE IF EXISTS temp.needed;
  DROP TABLE IF EXISTS temp.there;
  DROP TABLE IF EXISTS temp.chosen;
`;
const SCHEMA = `${DROP}
  CREATE TEMP TABLE needed (id BLOB PRIMARY KEY, kept INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TEMP TABLE there (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
  CREATE TEMP TABLE chosen (
    pack INTEGER NOT NULL, id BLOB NOT NULL, stored INTEGER NOT NULL, kept INTEGER NOT NULL,
    PRIMARY KEY (pack, id)) STRICT, WITHOUT ROWID;
`;
/** Of several packs that hold a blob the one is chosen that stays, and that an index object names. */
const CHOOSE = `
  SELECT needed.id, needed.kept, blob.pack, blob.stored, min(
    (pack.name IN (SELECT name FROM marked)) * 4294967296
    + (NOT EXISTS (SELECT 1 FROM listing WHERE listing.pack = pack.id AND healed = 0)) * 8589934592 + pack.id) AS rank
  FROM needed CROSS JOIN blob ON blob.id = needed.id CROSS JOIN pack ON pack.id = blob.pack
    CROSS JOIN there ON there.name = pack.name
  WHERE needed.id >= ? AND needed.id < ? GROUP BY needed.id
`;
const MISSING = `
  SELECT id FROM needed WHERE id >= ? AND id < ? AND kept = 1 AND NOT EXISTS (
    SELECT 1 FROM blob CROSS JOIN pack ON pack.id = blob.pack CROSS JOIN there ON there.name = pack.name WHERE blob.id = needed.id)
  LIMIT 1
`;
/** A turn of the event loop for each: there may be millions. */
const FIRST_BYTES = 256;

/** What a pack is needed for. */
export interface PackUse {
  readonly name: string;
  readonly bytes: number;
  readonly blobs: number;
  /** Stored bytes of those of its blobs for which it is chosen. */
  readonly usedBytes: number;
  /** Of them, what those need that are kept. */
  readonly keptBytes: number;
}

/** Which blobs are needed, and so which packs: on the disk, as there may be many. Part of the index of blobs. */
export class BlobUse implements Disposable {
  readonly #database: Database.Database;
  readonly #insert: Database.Statement<[Uint8Array, number]>;
  #missing: Uint8Array | undefined;

  constructor(database: Database.Database) {
    this.#database = database;
    database.exec(SCHEMA);
    this.#insert = database.prepare("INSERT OR IGNORE INTO needed VALUES (?, ?)");
  }

  /** A blob is needed. `kept`: by something that stays. Those that are come first. Returns whether it is new. */
  need(id: Uint8Array, kept: boolean): boolean {
    return this.#insert.run(id, kept ? 1 : 0).changes > 0;
  }

  /**
   * Of all packs that an index object names. `there`: names of those that the store has. Others have their turn meanwhile;
   * who writes blobs in between may or may not be heeded.
   */
  async packs(there: Iterable<string>): Promise<PackUse[]> {
    const database = this.#database;
    database.transaction(() => {
      const insert = database.prepare("INSERT OR IGNORE INTO there VALUES (?)");
      for (const name of there) insert.run(name);
    })();
    const used = new Map<number, { usedBytes: number; keptBytes: number }>();
    for (let first = 0; first < FIRST_BYTES; first += 1) {
      for (const { pack, stored, kept } of this.#choose(first)) {
        const sum = used.get(pack) ?? { usedBytes: 0, keptBytes: 0 };
        used.set(pack, { usedBytes: sum.usedBytes + stored, keptBytes: sum.keptBytes + stored * kept });
      }
      await nextTurn();
    }
    const packs = database.prepare<[], Pick<PackUse, "name" | "bytes" | "blobs"> & { readonly id: number }>(
      "SELECT id, name, bytes, blobs FROM pack",
    );
    return packs.all().map(({ id, ...pack }) => ({ ...pack, usedBytes: 0, keptBytes: 0, ...used.get(id) }));
  }

  /** For the blobs whose names begin with this byte. */
  #choose(first: number): Choice[] {
    const database = this.#database;
    const [from, to] = [Buffer.of(first), first + 1 < FIRST_BYTES ? Buffer.of(first + 1) : Buffer.alloc(33, 0xff)];
    const found = database.prepare<[Uint8Array, Uint8Array], Choice>(CHOOSE).all(from, to);
    this.#missing ??= database.prepare<[Uint8Array, Uint8Array], Uint8Array>(MISSING).pluck().get(from, to);
    const insert = database.prepare("INSERT OR IGNORE INTO chosen VALUES (?, ?, ?, ?)");
    database.transaction(() => {
      for (const { pack, id, stored, kept } of found) insert.run(pack, id, stored, kept);
    })();
    return found;
  }

  /** After `packs`: a blob that something needs that stays, and that no pack holds. */
  get missing(): Uint8Array | undefined {
    return this.#missing;
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
    if (this.#database.open) this.#database.exec(DROP);
  }
}

interface Choice {
  readonly id: Uint8Array;
  readonly kept: number;
  readonly pack: number;
  readonly stored: number;
}

interface Row {
  readonly id: Uint8Array;
  readonly type: BlobType;
  readonly position: number;
  readonly stored: number;
  readonly raw: number;
}
