import { PersistMode, type StreamInfo } from "@nats-io/jetstream";
import type { ServerInfo } from "@nats-io/transport-node";
import type { NatsLogConfig } from "../config/config.ts";
import { formatSize } from "../config/units.ts";
import type { LogConcern, LogDurability } from "./change-log.ts";

/** What is known of the place where the records lie. The server tells no client its sync_interval, in no version. */
export interface StreamFacts {
  readonly info: StreamInfo;
  /** Of the server that we are connected with. */
  readonly server: Pick<ServerInfo, "version"> | undefined;
  readonly config: NatsLogConfig;
}

/** A stream this full is worth a warning. */
const NEARLY_FULL = 0.8;

export function durabilityOf(facts: StreamFacts): LogDurability {
  const { num_replicas: replicas } = facts.info.config;
  const concerns = [
    ...replicaConcerns(facts),
    asyncConcern(facts),
    deleteConcern(facts),
    nearlyFullConcern(facts),
  ].filter((concern) => concern !== undefined);
  const survivesPowerLoss = replicas >= 3 && !isAsync(facts.info);
  const copies = `${replicas} replica${replicas === 1 ? "" : "s"} in files`;
  if (survivesPowerLoss) {
    const text = `${copies}: an acknowledged record is on a majority of them and survives the loss of one machine; a power cut of all at once may lose what was not yet synced (${syncOf(facts)})`;
    return { survivesPowerLoss, text, concerns };
  }
  const text =
    `${copies}: an acknowledgement is not an fsync; a power cut of the server may lose what was acknowledged since its last sync ` +
    `(${syncOf(facts)}). Use three servers and \`nats.replicas: 3\`, or \`sync_interval: always\` on the server (NATS 2.10 and newer)`;
  return { survivesPowerLoss, text, concerns };
}

/** Before 2.10 the interval was a constant of the server. */
function syncOf({ server }: StreamFacts): string {
  const [major = 0, minor = 0] = (server?.version ?? "").split(".").map(Number);
  const name = `nats-server ${server?.version ?? "of unknown version"}`;
  if (major === 2 && minor < 10) return `${name} syncs every minute`;
  return `${name} syncs every 2 minutes unless its sync_interval says otherwise, which it tells no client`;
}

function replicaConcerns({ info, config }: StreamFacts): (LogConcern | undefined)[] {
  const { num_replicas: given } = info.config;
  const wanted = config.replicas ?? given;
  const differs =
    wanted === given
      ? undefined
      : {
          code: "LOG_REPLICAS",
          text: `the stream has ${given} replica${given === 1 ? "" : "s"}, nats.replicas asks for ${wanted}`,
          hint: "The next start of `tidemark capture` changes it.",
        };
  const missing = (info.cluster?.replicas ?? []).filter(({ current, offline }) => offline || !current);
  if (missing.length === 0) return [differs];
  const names = missing.map(({ name }) => name).join(" and ");
  const hint = "Bring the servers back before another one fails: without a majority nothing is stored.";
  const text = `of the stream's ${given} replicas, ${names} ${missing.length > 1 ? "are" : "is"} away or behind`;
  return [differs, { code: "LOG_CLUSTER", text, hint }];
}

function isAsync(info: StreamInfo): boolean {
  return info.config.persist_mode === PersistMode.Async;
}

/** NATS 2.12 and newer, only when somebody made the stream so; it cannot be changed afterwards. */
function asyncConcern({ info }: StreamFacts): LogConcern | undefined {
  if (!isAsync(info)) return undefined;
  return {
    code: "LOG_ASYNC",
    text: "the stream's persist_mode is async: an acknowledged record may be in the server's memory only, and be lost when its process ends",
    hint: "Make the stream anew without it: stop the agents, delete it, remove the capture agent's state and reseed the standbys.",
  };
}

function deleteConcern({ info }: StreamFacts): LogConcern | undefined {
  if (info.config.deny_delete) return undefined;
  return {
    code: "LOG_DELETABLE",
    text: "the stream lets single messages be deleted (deny_delete is off)",
    hint: "The next start of `tidemark capture` switches deny_delete on.",
  };
}

function nearlyFullConcern({ info }: StreamFacts): LogConcern | undefined {
  const { max_bytes: limit } = info.config;
  if (limit <= 0 || info.state.bytes < limit * NEARLY_FULL) return undefined;
  return {
    code: "LOG_NEARLY_FULL",
    text: `the stream holds ${formatSize(info.state.bytes)} of at most ${formatSize(limit)}; capture waits when it is full`,
    hint: "Raise `nats.maxBytes`.",
  };
}
