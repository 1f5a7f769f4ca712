import type { Logger } from "pino";

import type { ReplicaConfig } from "../config/config.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ReplicaAgent } from "./replica-agent.ts";
import { Replica } from "./replica.ts";
import type { CrashHook } from "./sqlite/crash-point.ts";
import { prepareStandby } from "./standby-paths.ts";
import { StandbyState } from "./standby-state.ts";

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
  /** Drops position and databases and builds them from the last full copies in the log. */
  readonly reseed?: boolean;
  /** For tests: called at the moments at which a crash leaves something different behind. */
  readonly crashPoint?: CrashHook;
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
  return new Replica({ ...options, paths, state });
}
