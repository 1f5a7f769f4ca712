import {
  DiscardPolicy,
  JetStreamApiError,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from "@nats-io/jetstream";
import type { NatsLogConfig } from "../config/config.ts";
import { decodeRecord, decodeRecordHeader, MAX_RECORD_BYTES } from "../event/codec.ts";
import { type Offset, offset } from "../event/positions.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { LogBeginning, LogBounds } from "./change-log.ts";
import { assertBegunAs, baseOf, describeBeginning, GENESIS_MARK } from "./jetstream-beginning.ts";
import { type JetStreamConnection, toLogError } from "./jetstream-connection.ts";
import { existsError, foreignError, tooLargeError } from "./log-errors.ts";

/** The window in which the server itself recognises a repeated message id; our own look does not rely on it. */
const DUPLICATE_WINDOW_MS = 120_000;
/** JetStream API error codes. */
export const STREAM_NOT_FOUND = 10059;
const NO_RESOURCES = [10023, 10028, 10047];
const NO_SUITABLE_PEERS = 10005;
/** Headers, subject and the like beside the record, within the server's max_payload. */
export const PUBLISH_HEADER_BYTES = 512;

export const streamName = (set: string): string => `TIDEMARK_${set}`;
export const streamSubject = (set: string): string => `tidemark.${set}`;

/** The stream that was found at opening. */
export interface OpenStream {
  readonly connection: JetStreamConnection;
  readonly location: string;
  readonly name: string;
  readonly subject: string;
  /** Creation time as the server tells it: another one is another stream, once something of it is known. */
  created: string;
  /** Offset before that of its first message ever: an offset is this and the sequence number. */
  readonly base: Offset;
  /** Its head at opening. What a stream held stays its head, whatever is purged. */
  readonly head: Offset;
}

interface OpenStreamOptions {
  readonly config: NatsLogConfig;
  readonly set: string;
  readonly mode: "write" | "read";
  readonly begin?: LogBeginning | undefined;
}

/** Finds the stream, or creates it in mode write. @throws LOG_FOREIGN, LOG_DENIED, LOG_UNREACHABLE, LOG_EXISTS */
export async function openStream(connection: JetStreamConnection, options: OpenStreamOptions): Promise<OpenStream> {
  const { location } = connection;
  const name = streamName(options.set);
  assertRoom(location, { max_payload: connection.nats.info?.max_payload });
  const subject = streamSubject(options.set);
  const found = (await usableStream(connection, options)) ?? (await createStream(connection, options));
  assertOurShape(location, found.config, subject);
  if (options.begin) assertBegunAs(location, found.config, options.begin);
  assertRoom(location, { max_msg_size: found.config.max_msg_size });
  await assertOurRecords(connection, { info: found, set: options.set });
  if (options.mode === "write") await applyLimits(connection, { info: found, config: options.config });
  const base = baseOf(found.config);
  return { connection, location, name, subject, created: found.created, base, head: boundsOf(found).last };
}

/** Better at the start than in the middle of the first large transaction. */
function assertRoom(location: string, limits: Readonly<Record<string, number | undefined>>): void {
  const bytes = MAX_RECORD_BYTES + PUBLISH_HEADER_BYTES;
  for (const [name, limit = 0] of Object.entries(limits)) {
    if (limit > 0 && limit < bytes) throw tooLargeError(location, { bytes, evidence: `${name} is ${limit}` });
  }
}

/** One that was made and never used, by an agent that found its log gone, is no log yet: it gives way to one that goes on. */
async function usableStream(
  connection: JetStreamConnection,
  { set, begin }: OpenStreamOptions,
): Promise<StreamInfo | undefined> {
  const name = streamName(set);
  const info = await streamInfo(connection, name);
  if (!begin || !info || boundsOf(info).last > 0) return info;
  try {
    await connection.manager.streams.delete(name);
    return undefined;
  } catch {
    // A writer's rights do not include that: an administrator has to.
    throw existsError(connection.location);
  }
}

/** undefined when there is no such stream. */
export async function streamInfo(connection: JetStreamConnection, name: string): Promise<StreamInfo | undefined> {
  try {
    return await connection.manager.streams.info(name);
  } catch (error) {
    if (isStreamNotFound(error)) return undefined;
    throw toLogError(error, connection.location);
  }
}

export async function messageAt(
  { connection, name, base }: Pick<OpenStream, "connection" | "name" | "base">,
  at: Offset,
): Promise<Uint8Array | undefined> {
  if (at <= base) return undefined;
  try {
    const found = await connection.manager.streams.getMessage(name, { seq: at - base });
    return found?.data;
  } catch (error) {
    if (isStreamNotFound(error)) return undefined;
    throw toLogError(error, connection.location);
  }
}

function isStreamNotFound(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.code === STREAM_NOT_FOUND;
}

export function boundsOf(info: StreamInfo): LogBounds {
  const { messages, first_seq, last_seq, bytes } = info.state;
  const base = baseOf(info.config);
  return { first: offset(base + (messages > 0 ? first_seq : last_seq + 1)), last: offset(base + last_seq), bytes };
}

async function createStream(connection: JetStreamConnection, options: OpenStreamOptions): Promise<StreamInfo> {
  const name = streamName(options.set);
  if (options.mode === "read") {
    throw new TidemarkError("LOG_UNREACHABLE", `${connection.location}: there is no such stream yet`, {
      hint: "Start `tidemark capture` with this log first, or check the set's name.",
    });
  }
  try {
    return await connection.manager.streams.add(
      newStreamConfig(options, { name, subject: streamSubject(options.set) }),
    );
  } catch (error) {
    // Another writer may have made it in this very moment; who of the two may write is decided by the first append.
    const made = await streamInfo(connection, name);
    if (made) return made;
    throw createError(error, connection.location);
  }
}

function newStreamConfig(
  { config, begin }: OpenStreamOptions,
  stream: { name: string; subject: string },
): Partial<StreamConfig> & { name: string } {
  return {
    name: stream.name,
    description: `Tidemark log: written and trimmed by Tidemark only${begin ? describeBeginning(begin) : ""}`,
    subjects: [stream.subject],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    discard: DiscardPolicy.New,
    num_replicas: config.replicas ?? 1,
    max_bytes: config.maxBytes ?? -1,
    max_msgs: -1,
    max_age: 0,
    deny_delete: true,
    duplicate_window: DUPLICATE_WINDOW_MS * 1_000_000,
  };
}

function createError(error: unknown, location: string): TidemarkError {
  const isPassing = error instanceof JetStreamApiError && error.status === 503 && !NO_RESOURCES.includes(error.code);
  if (!(error instanceof JetStreamApiError) || isPassing) return toLogError(error, location);
  const message = `${location}: the server does not create the stream: ${error.message}`;
  // Servers that start together form their cluster before all of them are in it.
  if (error.code === NO_SUITABLE_PEERS) {
    return new TidemarkError("LOG_UNREACHABLE", message, {
      hint: "Fewer servers are up, or have room, than `nats.replicas` and `nats.maxBytes` ask for.",
      cause: error,
    });
  }
  if (/overlap/.test(error.message)) return foreignError(location, `another stream has its subject (${error.message})`);
  return new TidemarkError("LOG_DENIED", message, {
    hint: "Check `nats.replicas` and `nats.maxBytes` against the servers that there are and the account's JetStream limits.",
    cause: error,
  });
}

/** A stream that drops records by itself, or takes other subjects, is not one of ours. */
function assertOurShape(location: string, config: StreamConfig, subject: string): void {
  const differences = [
    config.subjects?.length === 1 && config.subjects[0] === subject
      ? undefined
      : `its subjects are ${String(config.subjects)}`,
    config.retention === RetentionPolicy.Limits ? undefined : `its retention is ${config.retention}`,
    config.discard === DiscardPolicy.New ? undefined : `it discards ${config.discard} messages when full`,
    (config.max_age ?? 0) === 0 ? undefined : "it drops messages by age",
    (config.max_msgs ?? -1) <= 0 ? undefined : "it is limited by the number of messages",
    (config.max_msgs_per_subject ?? -1) <= 0 ? undefined : "it is limited by messages of a subject",
    config.storage === StorageType.File ? undefined : "it is kept in memory",
    config.mirror || config.sources?.length || config.subject_transform ? "it copies or renames messages" : undefined,
    config.no_ack ? "it acknowledges nothing" : undefined,
    config.sealed ? "it is sealed" : undefined,
    (config.first_seq ?? 1) > 1 ? `its first offset is ${config.first_seq}` : undefined,
    config.allow_msg_counter ? "it takes counters only" : undefined,
  ].filter((difference) => difference !== undefined);
  if (differences.length > 0)
    throw foreignError(location, `this is not a stream of Tidemark's: ${differences.join(", ")}`);
}

async function assertOurRecords(
  connection: JetStreamConnection,
  options: { info: StreamInfo; set: string },
): Promise<void> {
  const bounds = boundsOf(options.info);
  const { location } = connection;
  const { config } = options.info;
  const stream = { connection, name: config.name, base: baseOf(config) };
  if (bounds.first > bounds.last) return;
  for (const at of new Set([bounds.first, bounds.last])) {
    const data = await messageAt(stream, at);
    if (data && offsetIn(data) !== at)
      throw foreignError(location, `message ${at} of the stream is not a record of Tidemark's`);
  }
  const genesis = (await messageAt(stream, offset(1))) ?? keptGenesis(config);
  const body = genesis && decodeRecord(genesis).body;
  if (body?.kind === "genesis" && body.set !== options.set)
    throw foreignError(location, `it is the log of the set "${body.set}"`);
}

function offsetIn(data: Uint8Array): number | undefined {
  try {
    return decodeRecordHeader(data).offset;
  } catch (error) {
    // A newer version of ours is not foreign; whoever decodes it says "upgrade".
    if (error instanceof TidemarkError && error.code === "RECORD_VERSION") throw error;
    return undefined;
  }
}

/** The stream follows the configuration, in what it says; what it leaves out may have been set by an administrator. */
async function applyLimits(
  connection: JetStreamConnection,
  options: { info: StreamInfo; config: NatsLogConfig },
): Promise<void> {
  const { config: current } = options.info;
  const { replicas = current.num_replicas, maxBytes = current.max_bytes } = options.config;
  const wanted = { num_replicas: replicas, max_bytes: maxBytes, deny_delete: true };
  if (replicas === current.num_replicas && maxBytes === current.max_bytes && current.deny_delete) return;
  try {
    await connection.manager.streams.update(current.name, wanted);
  } catch (error) {
    throw createError(error, connection.location);
  }
}

export function keptGenesis(config: StreamConfig): Uint8Array | undefined {
  const at = config.description?.indexOf(GENESIS_MARK) ?? -1;
  return at < 0 ? undefined : Buffer.from(config.description?.slice(at + GENESIS_MARK.length) ?? "", "base64");
}

/** Before the first purge: afterwards nothing else tells which log this is. */
export async function keepGenesis(stream: OpenStream, info: StreamInfo): Promise<void> {
  if (keptGenesis(info.config)) return;
  const genesis = await messageAt(stream, offset(1));
  if (!genesis) return;
  const description = `${info.config.description ?? ""} ${GENESIS_MARK}${Buffer.from(genesis).toString("base64")}`;
  await stream.connection.manager.streams.update(stream.name, { description });
}
