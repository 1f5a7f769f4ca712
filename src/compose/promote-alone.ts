import { openLog } from "../compose.ts";
import type { Config } from "../config/config.ts";
import { patiently, type Standing } from "../failover/promote.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { readLogIdentity } from "../log/log-reader.ts";
import type { PromoteReport, PromoteRequest } from "../observe/agent-control.ts";
import { StandbyState } from "../replica/standby-state.ts";
import { EXIT, hasCode, TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import { Promotion } from "./promotion.ts";
import { type AgentOptions, startAgents } from "./start-agents.ts";

export interface AloneOptions extends Omit<AgentOptions, "role"> {
  /** What a standby lacks is in a repository. */
  readonly mayBeEmpty?: true;
}

/** Promotes a standby whose agent does not run, with one that ends afterwards. @throws STANDBY_BEHIND, LOG_EMPTY, and as Promotion.promote */
export async function promoteAlone(options: AloneOptions, request: PromoteRequest): Promise<PromoteReport> {
  // An agent would wait for a log that is away.
  const open = async (): Promise<ChangeLog> => openToRead(options.config);
  await using log = await patiently(open, { ...options, ...request });
  await requireBegun(log, options.signal);
  if (!options.mayBeEmpty) requireFollower(options.config);
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const agents = await startAgents({ ...options, role: "replica", signal });
  try {
    await Promise.race([agents.ready, agents.done]);
    return await agents.promote(request);
  } catch (error) {
    const failure = toTidemarkError(error);
    const halted = failure.exitCode === EXIT.verification || failure.code === "LOG_GAP";
    if (!halted) throw error;
    await agents.done.catch(() => undefined);
    return await promoteHalted(options, { request, failure, log });
  } finally {
    stop.abort();
    await agents.done.catch(() => undefined);
  }
}

async function openToRead({ log, set, encryption }: Config): Promise<ChangeLog> {
  invariant(log !== undefined, "a replica has a log");
  return openLog({ log, set, encryption, mode: "read" });
}

/** A replica would wait for what nobody will ever write. @throws LOG_EMPTY */
async function requireBegun(log: ChangeLog, signal: AbortSignal): Promise<void> {
  try {
    await readLogIdentity(log, signal);
  } catch (error) {
    if (!hasCode(error, "LOG_EMPTY")) throw error;
    throw new TidemarkError("LOG_EMPTY", `${log.location} holds nothing: there is no primary to take the place of`, {
      hint: "If it stands in the place of one that is lost for good, promote with --new-log or --from-repository.",
      cause: error,
    });
  }
}

/**
 * A directory that never followed is no standby: it would be built from the log first, for as long as that takes, and a primary whose
 * agent does not run would be replaced by a copy of itself that its service knows nothing of. @throws STANDBY_BEHIND
 */
function requireFollower({ standby = "" }: Config): void {
  if (StandbyState.positionIn(standby)) return;
  throw new TidemarkError("STANDBY_BEHIND", `${standby} has never followed the log: there is no standby to promote`, {
    hint: "Start `tidemark replica`, and promote it when `tidemark status` says that it follows; on a former primary give `tidemark rejoin` before that.",
  });
}

interface Halted {
  readonly request: PromoteRequest;
  readonly failure: TidemarkError;
  readonly log: ChangeLog;
}

/** As it is, on the user's word. */
async function promoteHalted(options: AloneOptions, { request, failure, log }: Halted): Promise<PromoteReport> {
  const agent = standingOf(options.config, failure);
  const nothing = async (): Promise<void> => undefined;
  const promotion = new Promotion({
    ...options,
    replica: () => ({ agent, log }),
    endReplica: nothing,
    capture: nothing,
    onFailure: () => undefined,
    onProblem: ({ code, message }) => options.logger.warn({ code }, message),
  });
  return promotion.promote(request);
}

function standingOf({ standby = "" }: Config, failure: TidemarkError): Standing {
  const position = StandbyState.positionIn(standby);
  if (!position) throw failure;
  const status = { offset: position.offset, atMs: position.timeMs, verified: false, problem: failure.message };
  return { status: () => status, waitApplied: async () => Promise.reject(failure) };
}
