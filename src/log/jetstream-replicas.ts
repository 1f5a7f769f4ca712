import { DiscardPolicy, JetStreamApiError, RetentionPolicy, StorageType } from "@nats-io/jetstream";
import { errors } from "@nats-io/transport-node";

import type { NatsLogConfig } from "../config/config.ts";
import type { RegisteredReplica } from "./change-log.ts";
import { type JetStreamConnection, toLogError } from "./jetstream-connection.ts";
import { type OpenStream, STREAM_NOT_FOUND } from "./jetstream-stream.ts";
import { decodeRegistration, encodeRegistration } from "./registration.ts";

const ANSWER_MS = 5_000;
/** Of a registration; so many standbys nobody has. */
const MAX_REPLICAS = 1_000;

/** Beside the log's own stream, which nobody but the writer may write: the newest message of each standby's subject. */
const streamOf = ({ name }: OpenStream): string => name.replace(/^TIDEMARK_/, "TIDEMARK-REPLICAS_");
const subjectOf = ({ subject }: OpenStream, id: string): string => `${subject}.replicas.${id}`;

/** @throws LOG_DENIED, LOG_UNREACHABLE */
export async function register(stream: OpenStream, replica: RegisteredReplica, config: NatsLogConfig): Promise<void> {
  const { connection } = stream;
  const say = async (): Promise<void> => {
    const payload = encodeRegistration(replica);
    const answer = await connection.nats.request(subjectOf(stream, replica.id), payload, { timeout: ANSWER_MS });
    const { error } = answer.json<{ error?: { description?: string } }>();
    if (error) throw new Error(`${streamOf(stream)}: ${error.description ?? "refused"}`);
  };
  try {
    await say().catch(async (error: unknown) => {
      if (!isNobodyThere(error)) throw error;
      await create(stream, connection, config);
      await say();
    });
  } catch (error) {
    throw toLogError(error, stream.location);
  }
}

/** @throws LOG_DENIED, LOG_UNREACHABLE, LOG_CORRUPT */
export async function registered(stream: OpenStream): Promise<RegisteredReplica[]> {
  const { manager } = stream.connection;
  const name = streamOf(stream);
  try {
    const info = await manager.streams.info(name, { subjects_filter: subjectOf(stream, "*") });
    const found: RegisteredReplica[] = [];
    for (const subject of Object.keys(info.state.subjects ?? {})) {
      const message = await manager.streams.getMessage(name, { last_by_subj: subject });
      if (message) found.push(decodeRegistration(message.string(), `${name}, subject ${subject},`));
    }
    return found;
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === STREAM_NOT_FOUND) return [];
    throw toLogError(error, stream.location);
  }
}

function isNobodyThere(error: unknown): boolean {
  if (error instanceof errors.NoRespondersError) return true;
  return error instanceof errors.RequestError && error.isNoResponders();
}

async function create(stream: OpenStream, { manager }: JetStreamConnection, config: NatsLogConfig): Promise<void> {
  await manager.streams.add({
    name: streamOf(stream),
    description: "Tidemark: how far the standbys of a log are",
    subjects: [subjectOf(stream, "*")],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    discard: DiscardPolicy.Old,
    num_replicas: config.replicas ?? 1,
    max_msgs_per_subject: 1,
    max_msgs: MAX_REPLICAS,
  });
}
