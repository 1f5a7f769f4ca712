import { createHash } from "node:crypto";

/**
 * A bank whose every state follows from the number of transactions made: writers record which transaction got which
 * number, and from that record a test can say what the database held after any of them.
 */
export interface BankOptions {
  readonly seed: string;
  readonly accounts: number;
  readonly openingBalance: number;
  /** Bytes of the body that a transaction inserts. */
  readonly bodyBytes: number;
  /** A transaction empties the body that was inserted this many transactions before. */
  readonly keepBodies: number;
}

export const DEFAULT_BANK: BankOptions = {
  seed: "bank",
  accounts: 20,
  openingBalance: 1000,
  bodyBytes: 600,
  keepBodies: 400,
};

export const BANK_SCHEMA = `
  CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL);
  CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
  CREATE TABLE entries (seq INTEGER PRIMARY KEY, writer INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL);
  CREATE INDEX entries_by_writer ON entries (writer, n);
  INSERT INTO head VALUES (1, 0);
`;

export interface Transfer {
  readonly from: number;
  readonly to: number;
  readonly amount: number;
}

/** What transaction `n` of `writer` moves. */
export function transferOf(options: BankOptions, writer: number, n: number): Transfer {
  const digest = createHash("sha256").update(`${options.seed}/${writer}/${n}`).digest();
  return {
    from: digest.readUInt32LE(0) % options.accounts,
    to: digest.readUInt32LE(4) % options.accounts,
    amount: digest.readUInt32LE(8) % 100,
  };
}

/** What transaction `n` of `writer` inserts: bytes that do not compress. */
export function bodyOf(options: BankOptions, writer: number, n: number): Buffer {
  const outputLength = options.bodyBytes;
  return createHash("shake256", { outputLength }).update(`${options.seed}/${writer}/${n}/body`).digest();
}

/** One line of a writer's journal. */
export interface JournalEntry {
  readonly seq: number;
  readonly writer: number;
  readonly n: number;
  /** ms since 1970 before BEGIN. */
  readonly beforeMs: number;
  /** ms since 1970 after COMMIT returned. */
  readonly afterMs: number;
}
