import Database from "better-sqlite3";
import { realpathSync } from "node:fs";
import { resolve } from "node:path";
import { type Offset, offset } from "../event/positions.ts";
import { sleep } from "../runtime/clock.ts";
import type { TidemarkError } from "../runtime/errors.ts";
import type {
  ChangeLog,
  LogBeginning,
  LogBounds,
  LogDurability,
  ReadOptions,
  RegisteredReplica,
  StoredRecord,
} from "./change-log.ts";
import { readStored, wakeReaders } from "./embedded-read.ts";
import {
  embeddedLocation,
  fileIdentity,
  logFile,
  openStoreForRead,
  storeBounds,
  storedRecord,
  toStoreError,
  trimSlice,
} from "./embedded-store.ts";
import { readRegistrations, writeRegistration } from "./embedded-replicas.ts";
import { EmbeddedWriter } from "./embedded-writer.ts";
import { readOnlyError } from "./log-errors.ts";
import type { LogKeys } from "./log-keys.ts";
import { lastOffsetWhere } from "./search-offset.ts";

/** Between two slices of a trim. */
const TRIM_PAUSE_MS = 5;

export interface EmbeddedLogOptions {
  readonly directory: string;
  readonly set: string;
  /** write: creates the log when it is missing and keeps every other writer out. read: never creates anything. */
  readonly mode: "write" | "read";
  /** Makes a log that goes on with a lost one. */
  readonly begin?: LogBeginning | undefined;
  readonly keys?: LogKeys | undefined;
  /** Called while appends wait for something that can come back, such as room on the disk. */
  readonly onProblem?: (error: TidemarkError) => void;
}

/**
 * The log as one SQLite file, `<directory>/log.db`, for one machine or a shared disk.
 *
 * @throws AGENT_RUNNING (another writer), LOG_EXISTS (`begin`: there is one), LOG_UNREACHABLE (mode read: not there yet), LOG_FOREIGN, LOG_DENIED
 */
export async function openEmbeddedLog(options: EmbeddedLogOptions): Promise<ChangeLog> {
  const directory = resolve(options.directory);
  const writer = options.mode === "write" ? await openWriter(options, directory) : undefined;
  try {
    return new EmbeddedLog(options, writer);
  } catch (error) {
    await writer?.[Symbol.asyncDispose]();
    throw error;
  }
}

function openWriter(options: EmbeddedLogOptions, directory: string): Promise<EmbeddedWriter> {
  return EmbeddedWriter.open({
    directory,
    set: options.set,
    begin: options.begin,
    onProblem: options.onProblem ?? (() => {}),
    onCommit: () => wakeReaders(realpathSync(directory)),
  });
}

class EmbeddedLog implements ChangeLog {
  readonly location: string;
  readonly keys: LogKeys | undefined;
  readonly #directory: string;
  readonly #database: Database.Database;
  readonly #identity: string | undefined;
  readonly #writer: EmbeddedWriter | undefined;

  constructor(options: EmbeddedLogOptions, writer: EmbeddedWriter | undefined) {
    this.keys = options.keys;
    this.#database = openStoreForRead(resolve(options.directory), options.set);
    this.#directory = realpathSync(options.directory);
    this.location = embeddedLocation(resolve(options.directory));
    this.#identity = fileIdentity(logFile(this.#directory));
    this.#writer = writer;
  }

  async bounds(): Promise<LogBounds> {
    const { first, last, bytes } = this.#reading(() => storeBounds(this.#database));
    return { first: offset(first), last: offset(last), bytes };
  }

  async get(at: Offset): Promise<Uint8Array | undefined> {
    return this.#reading(() => storedRecord(this.#database, at));
  }

  async append(records: readonly Uint8Array[], expectedHead: Offset, signal: AbortSignal): Promise<Offset> {
    if (!this.#writer) throw readOnlyError(this.location);
    return this.#writer.append(records, expectedHead, signal);
  }

  read(after: Offset, options: ReadOptions): AsyncIterable<readonly StoredRecord[]> {
    return readStored(
      { database: this.#database, directory: this.#directory, identity: this.#identity },
      after,
      options,
    );
  }

  async locate(timeMs: number): Promise<Offset> {
    const bounds = await this.bounds();
    const timeOf = this.#database.prepare<[number], number>("SELECT time FROM record WHERE offset = ?").pluck();
    // A record trimmed meanwhile is older than all that are left.
    return lastOffsetWhere(bounds, (at) => (timeOf.get(at) ?? -Infinity) <= timeMs);
  }

  async trim(through: Offset): Promise<void> {
    if (this.#writer) return this.#writer.trim(through);
    // Trimming is not appending: the agent that keeps the repository does it beside the writer.
    const database = new Database(logFile(this.#directory), {
      fileMustExist: true,
      timeout: 10_000,
    });
    try {
      // On this thread, where others wait for their turn.
      while (trimSlice(database, through) > 0) await sleep(TRIM_PAUSE_MS);
    } catch (error) {
      throw toStoreError(error, this.location);
    } finally {
      database.close();
    }
  }

  async register(replica: RegisteredReplica): Promise<void> {
    this.#reading(() => writeRegistration(this.#directory, replica));
  }

  async replicas(): Promise<readonly RegisteredReplica[]> {
    return this.#reading(() => readRegistrations(this.#directory));
  }

  async durability(): Promise<LogDurability> {
    const text =
      "embedded log: an acknowledged record is synced to this machine's disk; it does not survive the loss of that disk";
    return { survivesPowerLoss: true, text, concerns: [] };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#database.close();
    await this.#writer?.[Symbol.asyncDispose]();
  }

  #reading<T>(look: () => T): T {
    try {
      return look();
    } catch (error) {
      throw toStoreError(error, this.location);
    }
  }
}
