import type { Logger } from "pino";

import { openLog } from "../compose.ts";
import type { Config } from "../config/config.ts";
import { standbyState } from "../config/load-config.ts";
import { formerPrimary } from "../failover/rejoin/former-primary.ts";
import { previewRejoin } from "../failover/rejoin/preview.ts";
import { rejoin, type RejoinOptions } from "../failover/rejoin/rejoin.ts";
import { RejoinRecord } from "../failover/rejoin/rejoin-record.ts";
import type { RejoinReport } from "../failover/rejoin/report.ts";
import { startControlServer } from "../observe/control-server.ts";
import { LookBack } from "../replica/look-back.ts";
import type { Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import { repositoriesToRead } from "./repositories.ts";

export interface RejoinHostOptions {
  /** With the state of the capture. */
  readonly config: Config;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly force: boolean;
  /** Agents may run. */
  readonly dryRun: boolean;
  readonly onProgress: NonNullable<RejoinOptions["onProgress"]>;
}

function interrupted(cause: unknown): TidemarkError {
  return new TidemarkError("INTERRUPTED", "interrupted: this host is half-way to a standby", {
    hint: "Run `tidemark rejoin` again: it goes on.",
    cause,
  });
}

/** Rejoins with this host, on which no agent may run meanwhile. @throws AGENT_RUNNING, and as `rejoin` */
export async function rejoinHost(options: RejoinHostOptions): Promise<RejoinReport> {
  const { config, clock, dryRun } = options;
  const { standby = "", log: where, set, encryption } = config;
  const former = RejoinRecord.read(standby)?.now.former ?? formerPrimary(config);
  await using scope = new AsyncDisposableStack();
  for (const directory of dryRun ? [] : new Set([former.state, standbyState(standby)]))
    scope.use(await startControlServer({ directory, handlers: {} }));
  invariant(where !== undefined, "a replica has a log");
  const log = scope.use(await openLog({ log: where, set, encryption, mode: "read", state: former.state }));
  const repositories = repositoriesToRead(config, { clock, state: former.state });
  const lookBack = scope.use(new LookBack({ ...options, repositories }));
  try {
    return await (dryRun ? previewRejoin : rejoin)({ ...options, former, log, lookBack });
  } catch (error) {
    if (options.signal.aborted) throw interrupted(error);
    throw error;
  }
}
