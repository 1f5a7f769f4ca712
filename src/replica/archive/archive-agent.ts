import type { Logger } from "pino";

import type { BaseConfig, TrimConfig } from "../../config/config.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import type { ExpireOptions } from "../../repository/expire/expire.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { RepositoryToOpen } from "../look-back.ts";
import type { ReplicaAgent } from "../replica-agent.ts";
import type { RepositoryStatus, TrimStatus } from "./archive-status.ts";
import type { MadeBase } from "./base-maker.ts";
import { RepositoryAgent } from "./repository-agent.ts";
import { Trimmer } from "./trimmer.ts";

/** A repository that is to be written. */
export interface RepositoryToWrite extends RepositoryToOpen {
  /** false: it is begun when the log has outgrown the standby. */
  readonly isWanted: () => boolean;
  /** When a base is made in it; undefined: as in the others. */
  readonly base?: BaseConfig | undefined;
  /** What the store was asked for since the start, repetitions included. */
  readonly requests: () => number;
  /** What expires in it, without being asked for; undefined: nothing. */
  readonly expiry?: Pick<ExpireOptions, "rules" | "rewrites"> | undefined;
}

export interface StartArchiveOptions {
  readonly repositories: readonly RepositoryToWrite[];
  readonly base: BaseConfig;
  readonly trim: TrimConfig;
  readonly set: string;
  /** Root of the standby. */
  readonly standby: string;
  readonly log: ChangeLog;
  readonly replica: ReplicaAgent;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Brings the log, and bases of the standby, into every repository of a set. Made by `startArchive`. */
export interface ArchiveAgent {
  /** Resolves after a stop, when what was gathered is stored, or could not be. */
  readonly done: Promise<void>;
  status(): readonly RepositoryStatus[];
  trim(): TrimStatus;
  /** A base in each repository, at about the same time. @throws the first failure, when all have ended */
  createBases(signal: AbortSignal): Promise<readonly MadeBase[]>;
}

/** None of the repositories holds up another one, nor the replica: what is wrong with one is in the status. */
export function startArchive(options: StartArchiveOptions): ArchiveAgent {
  const onBase = (): void => trimmer.wake();
  const agents = options.repositories.map((repository) => new RepositoryAgent({ ...options, repository, onBase }));
  const trimmer = new Trimmer({
    ...options,
    config: options.trim,
    baseEveryMs: options.base.everyMs,
    repositories: () => agents.filter(({ waits }) => !waits),
  });
  const trimming = agents.length > 0 ? trimmer.run() : undefined;
  return {
    done: Promise.all([...agents.map((agent) => agent.run()), trimming]).then(() => undefined),
    trim: () => trimmer.status(),
    status: () => agents.filter(({ waits }) => !waits).map((agent) => agent.status()),
    createBases: async (signal) => {
      const ended = await Promise.allSettled(agents.map((agent) => agent.createBase(signal)));
      return ended.map((one) => {
        if (one.status === "rejected") throw one.reason;
        return one.value;
      });
    },
  };
}
