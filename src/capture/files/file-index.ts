import path from "node:path";

import Database from "better-sqlite3";

import { contentName } from "../../event/chunk-list.ts";
import type { EventBody, LogEvent } from "../../event/kinds.ts";
import { offset, type Offset } from "../../event/positions.ts";
import type { ByteString } from "../../event/tree-path.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import { readEvents } from "../../log/log-reader.ts";
import { systemClock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { makeDirectory } from "../../runtime/durable-directory.ts";
import type { TreeEntry, TreeIndex } from "../../tree/tree-index.ts";
import type { Entry } from "./entry.ts";
import { type Said, sayingOf } from "./entry.ts";
import { EntryTable } from "./entry-table.ts";
import { type StagedChange, type StagedContent, Staging } from "./staging.ts";
import { TreeEntries } from "./tree-entries.ts";

export const FILE_INDEX = "files.db";
/** Another number: what is stored is thrown away and read from the log again. */
const FORMAT_VERSION = 1;
const CACHE_KIB = 16 * 1024;
/** Without changes the stored offset is raised after so many events, so that a start reads no further back. */
const RAISE_EVERY_EVENTS = 100;
/** A few hundredths of a second. */
const CHANGES_A_STEP = 1000;

/** Of the log, for what was trimmed meanwhile. */
const LOOK_EVERY_MS = 60_000;

export interface RecoverOptions {
  readonly log: ChangeLog;
  readonly logId: string;
  /** Everything up to here is in the log for good. */
  readonly head: Offset;
  readonly signal: AbortSignal;
}

/**
 * `<state>/files.db`: what the log says of the trees of a set, how the files stood when it was said, and where in the log
 * which content is. Exactly as new as the log at the stored offset: what came later is read from the log at the start, so a
 * file of which nothing is known any more, neither on disk nor here, is not left behind on the standby.
 */
export class FileIndex implements Disposable {
  readonly #db: Database.Database;
  readonly #table: EntryTable;
  readonly #staging = new Staging();
  readonly #trees = new Map<string, TreeEntries>();
  readonly #findContent: Database.Statement<[Buffer], number>;
  readonly #addContent: Database.Statement<[Buffer, number]>;
  /** Content before it was trimmed from the log. */
  #first = 1;
  #lookedMs = -Infinity;
  #storedAt = 0;
  #lastSent = 0;

  constructor(directory: string) {
    makeDirectory(directory, { mode: 0o700 });
    const db = new Database(path.join(directory, FILE_INDEX));
    this.#db = db;
    db.pragma("locking_mode=EXCLUSIVE");
    db.pragma("journal_mode=WAL");
    db.pragma("synchronous=NORMAL");
    db.pragma(`cache_size=-${CACHE_KIB}`);
    if (db.pragma("user_version", { simple: true }) !== FORMAT_VERSION) this.#begin();
    db.exec(`
      CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS content (id BLOB PRIMARY KEY, offset INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    `);
    this.#table = new EntryTable(db);
    this.#findContent = db.prepare<[Buffer], number>("SELECT offset FROM content WHERE id = ?").pluck();
    this.#addContent = db.prepare("INSERT OR REPLACE INTO content VALUES (?, ?)");
  }

  tree(name: string): TreeEntries {
    const known = this.#trees.get(name);
    if (known) return known;
    const entries = new TreeEntries(this.#table, this.#staging, name);
    this.#trees.set(name, entries);
    return entries;
  }

  /** Brings the index to the log's head. One of another log, or of none, is read from all that the log holds. */
  async recover({ log, logId, head, signal }: RecoverOptions): Promise<void> {
    const { first } = await log.bounds();
    this.#first = first;
    this.#db.prepare<[number]>("DELETE FROM content WHERE offset < ?").run(first);
    if (this.#meta("logId") !== logId) this.#forgetAll(logId);
    const stored = Number(this.#meta("offset") ?? 0);
    // Of what was trimmed unread nothing is known: all is said again.
    if (stored > 0 && stored < first - 1) this.#table.forgetSayings();
    const after = offset(Math.max(stored, first - 1));
    this.#storedAt = after;
    this.#lastSent = head;
    if (after < head) {
      for await (const events of readEvents(log, { after, through: head, follow: false, signal })) {
        this.#replay(events);
        crashPoint("tree: index replayed");
      }
    }
    for (const tree of this.#trees.values()) tree.count();
  }

  /** Begins with what another index says of the log at `at`, unless it knows more already. */
  seed(other: TreeIndex, { logId, at }: { readonly logId: string; readonly at: Offset }): void {
    if (this.#meta("logId") === logId && Number(this.#meta("offset") ?? 0) >= at) return;
    this.#forgetAll(logId);
    this.#db.transaction(() => {
      for (const [id, newest] of other.contents()) this.#addContent.run(id, newest);
      for (const name of other.names()) {
        const tree = this.#table.treeId(name);
        for (const entry of other.entries(name)) this.#table.put(tree, entry.path, said(entry.kind, saidBy(entry)));
      }
      this.#setMeta("offset", at);
    })();
  }

  /** Looks where the log begins by now, at most once a minute: content before that is sent again. */
  async lookAtLog(log: ChangeLog): Promise<void> {
    const nowMs = systemClock.monotonic();
    if (nowMs - this.#lookedMs < LOOK_EVERY_MS) return;
    this.#lookedMs = nowMs;
    try {
      this.#first = (await log.bounds()).first;
    } catch {
      // It is away; the next look tells.
    }
  }

  hasContent(id: ByteString): boolean {
    if (this.#staging.content(id)) return true;
    const at = this.#findContent.get(Buffer.from(id, "latin1"));
    return at !== undefined && at >= this.#first;
  }

  get staging(): Staging {
    return this.#staging;
  }

  /** Its record is in the order of the log now. */
  sent(what: StagedChange | StagedContent, at: number): void {
    this.#staging.sent(what, at);
    this.#lastSent = Math.max(this.#lastSent, at);
  }

  /** Offset of the last record that was sent. */
  get lastSent(): number {
    return this.#lastSent;
  }

  /** Makes a transaction of all steps: most of the pages that hold the names of contents change each time. */
  *storing(acknowledged: Offset): Generator<void> {
    const staged = this.#staging.through(acknowledged);
    if (staged.length === 0 && acknowledged - this.#storedAt < RAISE_EVERY_EVENTS) return;
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      for (let at = 0; at < staged.length; at += CHANGES_A_STEP) {
        if (at > 0) yield;
        for (const one of staged.slice(at, at + CHANGES_A_STEP)) this.#storeOne(one);
      }
      if (staged.length > 0) crashPoint("tree: index half stored");
      this.#setMeta("offset", acknowledged);
      this.#db.exec("COMMIT");
    } finally {
      if (this.#db.inTransaction) this.#db.exec("ROLLBACK");
    }
    this.#staging.forget(staged);
    this.#storedAt = acknowledged;
  }

  #storeOne(one: StagedChange | StagedContent): void {
    if ("id" in one) this.#addContent.run(Buffer.from(one.id, "latin1"), one.offset);
    else if (one.entry) this.#table.put(one.tree, one.path, one.entry);
    else this.#table.remove(one.tree, one.path);
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }

  #replay(events: readonly LogEvent[]): void {
    this.#db.transaction(() => {
      for (const event of events) this.#apply(event.body, event.offset);
      this.#setMeta("offset", events.at(-1)?.offset ?? 0);
    })();
    this.#storedAt = events.at(-1)?.offset ?? this.#storedAt;
  }

  #apply(body: EventBody | LogEvent["body"], at: Offset): void {
    switch (body.kind) {
      case "file.chunk":
        this.#addContent.run(Buffer.from(body.id), at);
        break;
      case "file.put":
        if (body.data) this.#addContent.run(Buffer.from(contentName(body), "latin1"), at);
        this.#table.put(this.#table.treeId(body.tree), body.path, said("file", body));
        break;
      case "dir.put":
        this.#table.put(this.#table.treeId(body.tree), body.path, said("dir", body));
        break;
      case "link.put":
        this.#table.put(this.#table.treeId(body.tree), body.path, said("link", body));
        break;
      case "file.remove":
      case "dir.remove":
        this.#table.remove(this.#table.treeId(body.tree), body.path);
        break;
      default:
    }
  }

  #forgetAll(logId: string): void {
    this.#db.transaction(() => {
      this.#table.clear();
      this.#db.exec("DELETE FROM content; DELETE FROM meta");
      this.#setMeta("logId", logId);
    })();
  }

  #begin(): void {
    const tables = this.#db.prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all();
    for (const table of tables) this.#db.exec(`DROP TABLE "${table}"`);
    this.#db.pragma(`user_version=${FORMAT_VERSION}`);
  }

  #meta(key: string): unknown {
    return this.#db.prepare("SELECT value FROM meta WHERE key = ?").pluck().get(key);
  }

  #setMeta(key: string, value: string | number): void {
    this.#db.prepare("INSERT OR REPLACE INTO meta VALUES (?, ?)").run(key, value);
  }
}

/** What the log says, without how it stood on disk: it is looked at again. */
function said(kind: Entry["kind"], event: Said): Entry {
  const { size, group = 0 } = event.kind === "file.put" ? event : { size: 0 };
  return { kind, stamp: "", size, group, saying: sayingOf(event) };
}

function saidBy(entry: TreeEntry): Said {
  switch (entry.kind) {
    case "file": {
      const { hash, size, group, metadata } = entry;
      return { kind: "file.put", hash, size, ...(group === undefined ? {} : { group }), ...metadata };
    }
    case "dir":
      return { kind: "dir.put", ...entry.metadata };
    case "link": {
      const { target, uid, gid, mtimeNs } = entry;
      return { kind: "link.put", target, uid, gid, mtimeNs };
    }
    default:
      return entry satisfies never;
  }
}
