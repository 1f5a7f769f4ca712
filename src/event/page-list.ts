import { isPageSize } from "../format/wal.ts";
import { readFields } from "./body-fields.ts";
import { MAX_PAGE_NUMBER } from "./field-rules.ts";
import type { SqliteCommit, SqlitePart } from "./kinds.ts";
import { unpackMap } from "./message-pack.ts";
import { checkPageNumber, pageNumbersOf } from "./body-codec.ts";

export type PartOutline = Pick<SqlitePart, "kind" | "database" | "transaction" | "sequence" | "pageSize">;
export type CommitOutline = Pick<
  SqliteCommit,
  "kind" | "database" | "transaction" | "parts" | "pageSize" | "sizePages" | "before" | "after"
>;

/** Of a part or a commit what tells which of its page images count. */
export interface PageList {
  readonly body: PartOutline | CommitOutline;
  readonly pageNumbers: readonly number[];
}

/** Names that were checked; more of them than this are forgotten. */
const MAX_NAMES = 10_000;
const COMMIT_FIELDS = 11;
const PART_FIELDS = 5;
const [FIX_MAP, FIX_ARRAY, FIX_TEXT] = [0x80, 0x90, 0xa0];
const TOKEN = {
  u8: 0xcc,
  u16: 0xcd,
  u32: 0xce,
  u64: 0xcf,
  i64: 0xd3,
  f64: 0xcb,
  text8: 0xd9,
  array16: 0xdc,
  array32: 0xdd,
};

const FIELDS = [
  ...(["database", "transaction", "parts", "sequence", "cause", "commits"] as const),
  ...(["pageSize", "sizePages", "before", "after", "wal", "pages"] as const),
];
/** Their names as they are written: a length, then the text. */
const KEY = Object.fromEntries(
  FIELDS.map((name) => [name, Buffer.from([FIX_TEXT | name.length, ...Buffer.from(name)])]),
) as unknown as Readonly<Record<(typeof FIELDS)[number], Uint8Array>>;

/** Says that something is written otherwise than expected. */
const OTHERWISE = new Error("written otherwise");

/**
 * Reads the maps of parts and commits that lie in some bytes. A replay reads a hundred thousand of them, so those that look
 * as they usually do are read in one go, field by field in the order in which they are written; any other goes the way of
 * every body. Fields that are not needed are then not looked at.
 */
export class PageListReader {
  readonly #data: Buffer;
  readonly #view: DataView;
  /** By their bytes. */
  readonly #names = new Map<string, string>();
  #at = 0;

  constructor(data: Uint8Array) {
    this.#data = Buffer.from(data.buffer, data.byteOffset, data.length);
    this.#view = new DataView(data.buffer, data.byteOffset, data.length);
  }

  /** The map from one byte to another. @throws RecordProblem */
  read(kind: PageList["body"]["kind"], [from, to]: readonly [number, number]): PageList {
    this.#at = from;
    try {
      const body = kind === "sqlite.commit" ? this.#commit() : this.#part();
      const pageNumbers = this.#pages();
      // Bytes of what comes behind may have been taken for its own.
      if (this.#at === to) return { body, pageNumbers };
    } catch (error) {
      if (error !== OTHERWISE && !(error instanceof RangeError)) throw error;
    }
    const list = decoded(kind, this.#data.subarray(from, to));
    if (this.#names.size >= MAX_NAMES) this.#names.clear();
    this.#names.set(Buffer.from(list.body.database).toString("latin1"), list.body.database);
    return list;
  }

  #commit(): CommitOutline {
    this.#is(FIX_MAP | COMMIT_FIELDS);
    const database = this.#name();
    const transaction = this.#safe(KEY.transaction);
    const parts = this.#uint(KEY.parts);
    this.#skipText(KEY.cause);
    this.#uint(KEY.commits);
    const pageSize = this.#pageSize();
    const sizePages = this.#uint(KEY.sizePages);
    const before = this.#u64(KEY.before);
    const after = this.#u64(KEY.after);
    this.#skipWal();
    return { kind: "sqlite.commit", database, transaction, parts, pageSize, sizePages, before, after };
  }

  #part(): PartOutline {
    this.#is(FIX_MAP | PART_FIELDS);
    const database = this.#name();
    const transaction = this.#safe(KEY.transaction);
    const sequence = this.#uint(KEY.sequence);
    return { kind: "sqlite.part", database, transaction, sequence, pageSize: this.#pageSize() };
  }

  #pages(): number[] {
    this.#key(KEY.pages);
    const token = this.#token();
    let count = token & 0x0f;
    if (token === TOKEN.array16) count = this.#number(2);
    else if (token === TOKEN.array32) count = this.#number(4);
    else if ((token & 0xf0) !== FIX_ARRAY) throw OTHERWISE;
    const pages: number[] = [];
    for (let index = 0; index < count; index += 1) {
      const page = this.#integer();
      if (page < 1 || page > MAX_PAGE_NUMBER) throw OTHERWISE;
      pages.push(page);
    }
    return pages;
  }

  /** One that was seen, and checked, before. */
  #name(): string {
    this.#key(KEY.database);
    const bytes = this.#textBytes();
    const name = this.#names.get(this.#data.toString("latin1", this.#at, this.#at + bytes));
    if (name === undefined) throw OTHERWISE;
    this.#at += bytes;
    return name;
  }

  #pageSize(): number {
    const size = this.#uint(KEY.pageSize);
    if (isPageSize(size)) return size;
    throw OTHERWISE;
  }

  #uint(key: Uint8Array): number {
    this.#key(key);
    return this.#integer();
  }

  /** Those above u32 are written as floats. */
  #safe(key: Uint8Array): number {
    this.#key(key);
    if (this.#view.getUint8(this.#at) !== TOKEN.f64) return this.#integer();
    const value = this.#view.getFloat64(this.#at + 1);
    if (!Number.isSafeInteger(value) || value < 0) throw OTHERWISE;
    this.#at += 9;
    return value;
  }

  #u64(key: Uint8Array): bigint {
    this.#key(key);
    const token = this.#token();
    const value = this.#view.getBigUint64(this.#at);
    if (token !== TOKEN.u64 && !(token === TOKEN.i64 && value >> 63n === 0n)) throw OTHERWISE;
    this.#at += 8;
    return value;
  }

  #skipText(key: Uint8Array): void {
    this.#key(key);
    const bytes = this.#textBytes();
    this.#at += bytes;
  }

  #skipWal(): void {
    this.#key(KEY.wal);
    const count = this.#token() - FIX_MAP;
    if (count < 0 || count > 0x0f) throw OTHERWISE;
    for (let index = 0; index < count; index += 1) {
      const bytes = this.#textBytes();
      this.#at += bytes;
      this.#integer();
    }
  }

  #textBytes(): number {
    const token = this.#token();
    if (token === TOKEN.text8) return this.#number(1);
    if ((token & 0xe0) === FIX_TEXT) return token & 0x1f;
    throw OTHERWISE;
  }

  #integer(): number {
    const token = this.#token();
    if (token < 0x80) return token;
    if (token === TOKEN.u8) return this.#number(1);
    if (token === TOKEN.u16) return this.#number(2);
    if (token === TOKEN.u32) return this.#number(4);
    throw OTHERWISE;
  }

  #key(key: Uint8Array): void {
    for (const byte of key) this.#is(byte);
  }

  #is(byte: number): void {
    if (this.#token() !== byte) throw OTHERWISE;
  }

  /** @throws RangeError behind the end */
  #token(): number {
    return this.#view.getUint8(this.#at++);
  }

  #number(bytes: 1 | 2 | 4): number {
    const at = this.#at;
    this.#at += bytes;
    if (bytes === 1) return this.#view.getUint8(at);
    return bytes === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }
}

function decoded(kind: PageList["body"]["kind"], bytes: Uint8Array): PageList {
  const map = unpackMap(bytes);
  const body = { kind, ...readFields(kind, map) } as unknown as PageList["body"];
  return { body, pageNumbers: pageNumbersOf(map).map(checkPageNumber) };
}
