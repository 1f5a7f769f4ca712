import { randomUUID } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

import { epoch, offset, type Offset } from "../event/positions.ts";
import type { KnownHead } from "../log/log-writer.ts";
import { makeDirectory } from "../runtime/durable-directory.ts";
import { errnoOf, hasCode, TidemarkError } from "../runtime/errors.ts";
import { PageIndexStore } from "../sqlite/page-index-store.ts";
import type { OpenCopy } from "./sqlite/open-copy.ts";
import type { ScrubRecord } from "./sqlite/scrub.ts";
import type { ShippedState } from "./sqlite/shipper.ts";

/** 2: a copy under way is remembered. State of version 1 is that of version 2 without one. */
const FORMAT_VERSION = 2;
const STATE_FILE = "capture.db";

interface PositionRow {
  readonly name: string;
  readonly path: string;
  readonly salt1: number;
  readonly salt2: number;
  readonly frame: number;
  readonly checksum1: number;
  readonly checksum2: number;
  readonly file: string;
}

interface CopyRow {
  readonly number: number;
  readonly parts: number;
  readonly cause: OpenCopy["cause"];
  /** u64 as hexadecimal text. */
  readonly before: string;
  readonly size_before: number;
  readonly gap_since_ms: number;
}

interface ScrubRow {
  readonly at_ms: number;
  readonly pages: number | null;
  readonly differing: number | null;
}

/** What a capture agent remembers of one database, valid at `offset`. */
export interface StoredCapture extends ShippedState {
  readonly offset: Offset;
  /** Where the database was when this was stored. */
  readonly path: string;
}

/**
 * `<state>/capture.db`: writer identity, the log's head as last known, and for each database the page index with the
 * WAL position. One process at a time holds it, by an SQLite lock that dies with the process.
 */
export class CaptureState implements Disposable {
  readonly directory: string;
  readonly #db: Database.Database;
  readonly #indexes: PageIndexStore;

  /** @throws AGENT_RUNNING, STATE_FOREIGN (another set's state) */
  constructor(directory: string, set: string) {
    this.directory = directory;
    makeDirectory(directory, { mode: 0o700 });
    this.#db = openExclusively(path.join(directory, STATE_FILE));
    this.#db.exec(`
      CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, at INTEGER) STRICT, WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS positions (name TEXT PRIMARY KEY, path TEXT, salt1 INTEGER, salt2 INTEGER,
        frame INTEGER, checksum1 INTEGER, checksum2 INTEGER, file TEXT) STRICT, WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS copies (name TEXT PRIMARY KEY, number INTEGER, parts INTEGER, cause TEXT, before TEXT,
        size_before INTEGER, gap_since_ms INTEGER) STRICT, WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS doubts (name TEXT PRIMARY KEY, since_ms INTEGER) STRICT, WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS scrubs (name TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, pages INTEGER,
        differing INTEGER) STRICT, WITHOUT ROWID;
    `);
    this.#indexes = new PageIndexStore(this.#db);
    this.#claim(set);
  }

  #claim(set: string): void {
    const version = this.#meta("version") ?? FORMAT_VERSION;
    const owner = this.#meta("set") ?? set;
    if (typeof version !== "number" || version > FORMAT_VERSION) {
      throw new TidemarkError("STATE_FOREIGN", `${this.directory} has state of format ${JSON.stringify(version)}`, {
        hint: "Upgrade Tidemark, or give another directory with --state.",
      });
    }
    if (owner !== set) {
      throw new TidemarkError(
        "STATE_FOREIGN",
        `${this.directory} holds the state of set ${JSON.stringify(owner)}, not ${set}`,
        {
          hint: "Give each set a state directory of its own with --state.",
        },
      );
    }
    // Before the log hears of the writer: after a power cut it must be the same one.
    this.#durably(() => {
      this.#setMeta("version", FORMAT_VERSION);
      this.#setMeta("set", set);
      if (this.#meta("writer") === undefined) this.#setMeta("writer", randomUUID());
    });
  }

  /** UUID of this capture's state: who the writer is, to the log. */
  get writer(): string {
    return String(this.#meta("writer"));
  }

  get known(): KnownHead | undefined {
    const logId = this.#meta("logId");
    const at = this.#meta("offset");
    const hash = this.#meta("hash");
    if (typeof logId !== "string" || typeof at !== "number" || !(hash instanceof Uint8Array)) return undefined;
    const inEpoch = this.#meta("epoch");
    return { logId, offset: offset(at), hash, epoch: typeof inEpoch === "number" ? epoch(inEpoch) : undefined };
  }

  /** Name and path of every database that was captured with this state. */
  captured(): ReadonlyMap<string, string> {
    const rows = this.#db.prepare<[], { name: string; path: string }>("SELECT name, path FROM positions").all();
    return new Map(rows.map(({ name, path: databasePath }) => [name, databasePath]));
  }

  /** What the stored index of a database is exactly as new as; undefined when there is none. */
  offsetOf(name: string): Offset | undefined {
    return this.#indexes.offsetOf(name);
  }

  /** Undefined when nothing usable is stored: the database then needs a full copy. */
  load(name: string, seed: bigint): StoredCapture | undefined {
    const row = this.#db.prepare<[string], PositionRow>("SELECT * FROM positions WHERE name = ?").get(name);
    const stored = this.#loadIndex(name, seed);
    if (!row || !stored) return undefined;
    const { path: databasePath, salt1, salt2, frame, checksum1, checksum2, file } = row;
    const position = { salt1, salt2, frame, checksum1, checksum2 };
    return { ...stored, position, path: databasePath, file, copy: this.#loadCopy(name) };
  }

  #loadCopy(name: string): OpenCopy | undefined {
    const row = this.#db.prepare<[string], CopyRow>("SELECT * FROM copies WHERE name = ?").get(name);
    if (!row) return undefined;
    const { number: transaction, parts, cause, before, size_before: sizeBefore, gap_since_ms: gapSinceMs } = row;
    return { transaction, parts, cause, before: BigInt(`0x${before}`), sizeBefore, gapSinceMs };
  }

  /** A damaged index is as good as none: the primary is there, and a full copy puts everything right. */
  #loadIndex(name: string, seed: bigint): ReturnType<PageIndexStore["load"]> {
    try {
      return this.#indexes.load(name, seed);
    } catch (error) {
      if (hasCode(error, "INTEGRITY")) return undefined;
      throw error;
    }
  }

  /**
   * Stores a database's index as of `known.offset`, and the head, in one transaction. An older state is as good: the log
   * has the rest. But of a copy this is all there is: it survives a power cut, lest a large one is begun again.
   */
  save(name: string, databasePath: string, stored: { shipped: ShippedState; known: KnownHead }): void {
    const { shipped, known } = stored;
    const store = (): void => {
      this.#indexes.save(name, shipped.index, known.offset);
      this.#savePosition(name, databasePath, shipped);
      this.#saveCopy(name, shipped.copy);
      this.saveKnown(known);
    };
    try {
      if (shipped.copy || !this.captured().has(name) || this.#loadCopy(name)) this.#durably(store);
      else this.#db.transaction(store)();
    } catch (error) {
      this.#indexes.rolledBack();
      throw error;
    }
  }

  /** What is stored of this database says of no file any more: the next start compares it, whatever its WAL proves. */
  forgetFile(name: string): void {
    this.#durably(() => this.#db.prepare("UPDATE positions SET file = 'none' WHERE name = ?").run(name));
  }

  /**
   * Until it is shown that nothing did, commits of these databases may have passed unseen since then, or since longer, when
   * an agent before this one did not come to show it. Returns since when, by name.
   */
  doubt(names: Iterable<string>, sinceMs: number): Map<string, number> {
    const insert = this.#db.prepare("INSERT OR IGNORE INTO doubts VALUES (?, ?)");
    this.#db.transaction(() => {
      for (const name of names) insert.run(name, sinceMs);
    })();
    const rows = this.#db.prepare<[], { name: string; since_ms: number }>("SELECT * FROM doubts").all();
    return new Map(rows.map((row) => [row.name, row.since_ms]));
  }

  /** The log holds everything of this database. */
  trust(name: string): void {
    this.#db.prepare("DELETE FROM doubts WHERE name = ?").run(name);
  }

  /** Nothing was sent of these databases since they were stored: what is stored of them holds at `known` as well. */
  raise(names: Iterable<string>, known: KnownHead): void {
    this.#db.transaction(() => {
      for (const name of names) this.#indexes.raise(name, known.offset);
      this.saveKnown(known);
    })();
  }

  /** All of it or nothing: an offset with the hash of another would look like another log. */
  saveKnown(known: KnownHead): void {
    this.#db.transaction(() => {
      this.#setMeta("logId", known.logId);
      this.#setMeta("offset", known.offset);
      this.#setMeta("hash", known.hash);
      if (known.epoch !== undefined) this.#setMeta("epoch", known.epoch);
    })();
  }

  /** Where a mark is (`sent`), or after which offset it may be. */
  mark(name: string): { readonly sent: boolean; readonly offset: number } | undefined {
    const at = this.#db.prepare<[string], number>("SELECT at FROM marks WHERE name = ?").pluck().get(name);
    return at === undefined ? undefined : { sent: at > 0, offset: Math.abs(at) };
  }

  /** The mark is going to be sent, to a place after this offset. */
  announceMark(name: string, after: Offset): void {
    this.#saveMark(name, -Number(after));
  }

  addMark(name: string, at: Offset): void {
    this.#saveMark(name, at);
  }

  /** `at`: the offset of the mark, or negative, the one after which it is looked for. */
  #saveMark(name: string, at: number): void {
    this.#durably(() => this.#db.prepare("INSERT OR REPLACE INTO marks VALUES (?, ?)").run(name, at));
  }

  scrubOf(name: string): ScrubRecord | undefined {
    const row = this.#db.prepare<[string], ScrubRow>("SELECT * FROM scrubs WHERE name = ?").get(name);
    if (!row) return undefined;
    const { at_ms: atMs, pages, differing } = row;
    return { atMs, result: pages === null ? undefined : { pages, differing: differing ?? 0 } };
  }

  saveScrub(name: string, { atMs, result }: ScrubRecord): void {
    const put = this.#db.prepare("INSERT OR REPLACE INTO scrubs VALUES (?, ?, ?, ?)");
    put.run(name, atMs, result?.pages ?? null, result?.differing ?? null);
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }

  #savePosition(name: string, databasePath: string, shipped: ShippedState): void {
    const { salt1, salt2, frame, checksum1, checksum2 } = shipped.position;
    this.#db
      .prepare("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
      .run(name, databasePath, salt1, salt2, frame, checksum1, checksum2, shipped.file);
  }

  #saveCopy(name: string, copy: OpenCopy | undefined): void {
    this.#db.prepare("DELETE FROM copies WHERE name = ?").run(name);
    if (!copy) return;
    const { transaction, parts, cause, before, sizeBefore, gapSinceMs } = copy;
    this.#db
      .prepare("INSERT INTO copies VALUES (?, ?, ?, ?, ?, ?, ?)")
      .run(name, transaction, parts, cause, before.toString(16), sizeBefore, gapSinceMs);
  }

  /** With an fsync, of everything before it, too. */
  #durably(action: () => void): void {
    this.#db.pragma("synchronous=FULL");
    try {
      this.#db.transaction(action)();
    } finally {
      this.#db.pragma("synchronous=NORMAL");
    }
  }

  #meta(key: string): unknown {
    return this.#db.prepare("SELECT value FROM meta WHERE key = ?").pluck().get(key);
  }

  #setMeta(key: string, value: string | number | Uint8Array): void {
    this.#db.prepare("INSERT OR REPLACE INTO meta VALUES (?, ?)").run(key, value);
  }
}

/** Databases that an agent with this state directory has captured, by name; empty when there is no such state. */
export function capturedBefore(directory: string, set: string): ReadonlyMap<string, string> {
  if (!fs.existsSync(path.join(directory, STATE_FILE))) return new Map();
  using state = new CaptureState(directory, set);
  return state.captured();
}

function openExclusively(file: string): Database.Database {
  const db = new Database(file, { timeout: 0 });
  try {
    db.pragma("locking_mode=EXCLUSIVE");
    db.pragma("journal_mode=WAL");
    db.pragma("synchronous=NORMAL");
    db.pragma("cache_size=-2048");
    db.exec("BEGIN EXCLUSIVE; COMMIT");
    return db;
  } catch (error) {
    db.close();
    if (!errnoOf(error)?.startsWith("SQLITE_BUSY")) throw error;
    throw new TidemarkError("AGENT_RUNNING", `another capture agent is running on the state in ${path.dirname(file)}`, {
      hint: "One agent captures a set. Stop the other one, or give this one its own set and --state.",
      cause: error,
    });
  }
}
