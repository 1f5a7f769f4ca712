import type { Logger } from "pino";

import type { ReplicaConfig } from "../config/config.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { Clock } from "../runtime/clock.ts";
import type { RepositoryToOpen } from "./look-back.ts";
import type { ReplicaAgent } from "./replica-agent.ts";
import { Replica } from "./replica.ts";
import { prepareStandby } from "./standby-paths.ts";
import { StandbyState } from "./standby-state.ts";
import { crashPoint } from "../runtime/crash-point.ts";

export interface StartReplicaOptions {
  readonly set: string;
  /** Root of the standby; made when it is not there. */
  readonly directory: string;
  readonly config: ReplicaConfig;
  readonly log: ChangeLog;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Stops the agent: what was begun is finished, made durable and recorded. */
  readonly signal: AbortSignal;
  /** Where to look for what the log holds no more; none by default. */
  readonly repositories?: readonly RepositoryToOpen[];
  /** The primary offers its place to this standby, which can be promoted then. */
  readonly onOffered?: () => void;
  /** Drops position and databases and builds them from the last full copies in the log. */
  readonly reseed?: boolean;
}

/**
 * Starts the replica of a standby. A log that is away or still empty is waited for; what is wrong with the log or the
 * standby rejects `ready` and `done` of the agent.
 *
 * @throws AGENT_RUNNING when another replica works on this standby
 */
export async function startReplica(options: StartReplicaOptions): Promise<ReplicaAgent> {
  const paths = prepareStandby(options.directory);
  const state = options.reseed ? StandbyState.openToReseed(paths) : new StandbyState(paths);
  if (options.reseed) crashPoint("standby: reseed begun");
  return new Replica({ ...options, paths, state });
}
