import type { NatsLogConfig } from "../config/config.ts";
import { decodeRecordHeader } from "../event/codec.ts";
import type { Offset } from "../event/positions.ts";
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
import { JetStreamAppender } from "./jetstream-append.ts";
import { JetStreamConnection, toLogError } from "./jetstream-connection.ts";
import { durabilityOf } from "./jetstream-durability.ts";
import { lookAgain } from "./jetstream-look.ts";
import { register, registered } from "./jetstream-replicas.ts";
import { readStream } from "./jetstream-read.ts";
import {
  boundsOf,
  keepGenesis,
  keptGenesis,
  messageAt,
  openStream,
  type OpenStream,
  streamInfo,
  streamName,
} from "./jetstream-stream.ts";
import { readOnlyError, recreatedError } from "./log-errors.ts";
import type { LogKeys } from "./log-keys.ts";
import { lastOffsetWhere } from "./search-offset.ts";
import { BEFORE_FIRST } from "../event/positions.ts";

export interface JetStreamLogOptions {
  readonly config: NatsLogConfig;
  readonly set: string;
  /** write: creates the stream when it is missing. read: never creates anything. */
  readonly mode: "write" | "read";
  /** Makes a log that goes on with a lost one. */
  readonly begin?: LogBeginning | undefined;
  readonly keys?: LogKeys | undefined;
  /** Called while appends wait: connection lost, stream full, server not answering. */
  readonly onProblem?: (error: TidemarkError) => void;
  /** How long the server may be silent about what was sent before we look for ourselves. */
  readonly ackTimeoutMs?: number;
  /** How often the server says that a waiting read is alive; two missed ones mean that it is not. */
  readonly idleHeartbeatMs?: number;
  /** After so long without a record a reader begins anew: its place on the server may have fallen behind. */
  readonly barrenMs?: number;
}

/**
 * The log as a NATS JetStream stream `TIDEMARK_<set>`.
 *
 * @throws LOG_UNREACHABLE (no server; mode read: no stream yet), LOG_DENIED, LOG_FOREIGN, LOG_EXISTS (`begin`: there is one)
 */
export async function openJetStreamLog(options: JetStreamLogOptions): Promise<ChangeLog> {
  const location = `nats://${options.config.servers.join(",")} stream ${streamName(options.set)}`;
  const connection = await JetStreamConnection.open(options.config, location);
  try {
    return new JetStreamLog(await openStream(connection, options), options);
  } catch (error) {
    const ended = await connection.ended();
    await connection[Symbol.asyncDispose]();
    throw ended ?? error;
  }
}

class JetStreamLog implements ChangeLog {
  readonly location: string;
  readonly keys: LogKeys | undefined;
  readonly #stream: OpenStream;
  readonly #options: JetStreamLogOptions;
  readonly #appender: JetStreamAppender | undefined;

  constructor(stream: OpenStream, options: JetStreamLogOptions) {
    this.location = stream.location;
    this.keys = options.keys;
    this.#stream = stream;
    this.#options = options;
    this.#appender = options.mode === "write" ? new JetStreamAppender(stream, options) : undefined;
  }

  async bounds(): Promise<LogBounds> {
    return boundsOf(await lookAgain(this.#stream, BEFORE_FIRST));
  }

  async get(at: Offset): Promise<Uint8Array | undefined> {
    const found = await messageAt(this.#stream, at);
    if (found || at !== 1) return found;
    const info = await streamInfo(this.#stream.connection, this.#stream.name);
    return info && keptGenesis(info.config);
  }

  async append(records: readonly Uint8Array[], expectedHead: Offset, signal: AbortSignal): Promise<Offset> {
    if (!this.#appender) throw readOnlyError(this.location);
    return this.#appender.append(records, expectedHead, signal);
  }

  read(after: Offset, options: ReadOptions): AsyncIterable<readonly StoredRecord[]> {
    return readStream(this.#stream, after, {
      ...options,
      idleHeartbeatMs: this.#options.idleHeartbeatMs,
      barrenMs: this.#options.barrenMs,
    });
  }

  async locate(timeMs: number): Promise<Offset> {
    return lastOffsetWhere(await this.bounds(), async (at) => {
      const data = await messageAt(this.#stream, at);
      // A record trimmed meanwhile is older than all that are left.
      return data === undefined || decodeRecordHeader(data).timeMs <= timeMs;
    });
  }

  async trim(through: Offset): Promise<void> {
    const info = await lookAgain(this.#stream, BEFORE_FIRST);
    const { first, last } = boundsOf(info);
    const keepFrom = Math.min(through + 1, last);
    if (keepFrom <= first) return;
    try {
      await keepGenesis(this.#stream, info);
      await this.#stream.connection.manager.streams.purge(this.#stream.name, { seq: keepFrom - this.#stream.base });
    } catch (error) {
      throw toLogError(error, this.location);
    }
  }

  async register(replica: RegisteredReplica): Promise<void> {
    await register(this.#stream, replica, this.#options.config);
  }

  replicas(): Promise<readonly RegisteredReplica[]> {
    return registered(this.#stream);
  }

  async durability(): Promise<LogDurability> {
    const info = await streamInfo(this.#stream.connection, this.#stream.name);
    if (!info) throw recreatedError(this.location, "the stream was deleted while it was in use");
    return durabilityOf({ info, server: this.#stream.connection.nats.info, config: this.#options.config });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#appender?.[Symbol.dispose]();
    await this.#stream.connection[Symbol.asyncDispose]();
  }
}
