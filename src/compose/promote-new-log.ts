import { openLog } from "../compose.ts";
import type { Config } from "../config/config.ts";
import { standbyState } from "../config/load-config.ts";
import {
  beginEpoch,
  beginningOf,
  examineLost,
  firstEpochAfter,
  type KnownPoint,
  type LostLogExamined,
} from "../failover/new-log.ts";
import { isOwnEpoch, UNKNOWN_LOSS } from "../failover/promote.ts";
import { readRole } from "../failover/standby-role.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { existsError } from "../log/log-errors.ts";
import type { PromoteReport, PromoteRequest } from "../observe/agent-control.ts";
import { askAgent } from "../observe/control-client.ts";
import { LookBack } from "../replica/look-back.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import { type AloneOptions, promoteAlone } from "./promote-alone.ts";
import { repositoriesToRead } from "./repositories.ts";

export interface NewLogRequest extends PromoteRequest {
  readonly from: "standby" | "repository";
  /** Told before anything is changed. */
  readonly onExamined: (newLog: NonNullable<PromoteReport["newLog"]>) => void;
}

const ANSWER_MS = 5000;

/**
 * Promotes a standby whose log is lost, with a log that goes on where the standby, or a repository, ends. Once that log's first record is
 * appended this is a promotion like any other, which the next start of `tidemark replica` finishes too.
 *
 * @throws LOG_EXISTS, AGENT_RUNNING, STANDBY_BEHIND, STANDBY_UNVERIFIED, and as examineLost and promoteAlone
 */
export async function promoteWithNewLog(options: AloneOptions, request: NewLogRequest): Promise<PromoteReport> {
  const { config, clock, signal } = options;
  const beganMs = clock.monotonic();
  await requireNoAgent(config);
  const alone = { ...options, mayBeEmpty: true } as const;
  if (await isBegun(options)) return { ...(await promoteAlone(alone, request)), lost: UNKNOWN_LOSS };
  const examined = await examine(options, request);
  const newLog = toldOf(examined, clock.now());
  request.onExamined(newLog);
  if (examined.refusal && !request.force) throw examined.refusal;
  const { point } = examined;
  const next = { epoch: firstEpochAfter(point), offset: point.offset + 1 };
  const durationMs = (): number => Math.round(clock.monotonic() - beganMs);
  if (request.dryRun)
    return { ok: true, ...next, lost: UNKNOWN_LOSS, newLog, durationMs: durationMs(), hooks: [], dryRun: true };
  await begin(options, point);
  signal.throwIfAborted();
  const report = await promoteAlone(alone, request);
  return { ...report, ...next, lost: UNKNOWN_LOSS, newLog, durationMs: durationMs() };
}

async function examine(options: AloneOptions, { from }: NewLogRequest): Promise<LostLogExamined> {
  const { config, clock, logger, signal } = options;
  const repositories = repositoriesToRead(config, { clock, state: undefined });
  await using lookBack = new LookBack({ repositories, logger, signal });
  requireEncryption(config);
  return await examineLost({ config, from, lookBack, clock, signal });
}

async function begin(options: AloneOptions, point: KnownPoint): Promise<void> {
  const { config } = options;
  await using log = await open(config, { mode: "write", begin: beginningOf(config, point) });
  crashPoint("promote: log begun");
  await beginEpoch(options, { log, point });
}

/** Whether the log is there, and is the one that this host began. @throws LOG_EXISTS when it is another one */
async function isBegun({ config, signal }: AloneOptions): Promise<boolean> {
  try {
    await using log = await open(config, { mode: "read" });
    const { first, last } = await log.bounds();
    if (first > last) return false;
    if (await isOwnEpoch(config, log, signal)) return true;
    throw existsError(log.location);
  } catch (error) {
    // Not there. Whether a log without a record was begun by this host shows when it is made again.
    if (hasCode(error, "LOG_UNREACHABLE")) return false;
    throw error;
  }
}

async function open(
  { log, set, encryption }: Config,
  how: Pick<Parameters<typeof openLog>[0], "mode" | "begin">,
): Promise<ChangeLog> {
  invariant(log !== undefined, "a replica has a log");
  return openLog({ log, set, encryption, ...how });
}

/** One that runs would see what the command does to its standby only in part. */
async function requireNoAgent({ standby = "" }: Config): Promise<void> {
  if (readRole(standby)) throw isPrimary(standby);
  try {
    await askAgent(standbyState(standby), { method: "GET", path: "/status", timeoutMs: ANSWER_MS });
  } catch (error) {
    if (hasCode(error, "AGENT_NOT_RUNNING")) return;
    throw error;
  }
  throw new TidemarkError("AGENT_RUNNING", `an agent runs on the standby ${standby}`, {
    hint: "Stop it (`systemctl stop tidemark-replica`), give the command again, and start it afterwards: it captures then.",
  });
}

function isPrimary(standby: string): TidemarkError {
  return new TidemarkError("STANDBY_FOREIGN", `${standby} was promoted already: what an application writes is in it`, {
    hint: "A primary that lives begins a new log by itself: move its state (.tidemark/primary in the standby) aside, start `tidemark replica`, and build its standbys anew.",
  });
}

/** With an identity alone the new log would hold in plain text what the lost one did not. */
function requireEncryption({ encryption }: Config): void {
  if (encryption.identity === undefined || encryption.recipients.length > 0) return;
  throw new TidemarkError("CONFIG", "there is an identity to read with, and no recipients to encrypt the new log for", {
    hint: "List the recipients of the primary's configuration as encryption: { recipients: [age1…] } here too.",
  });
}

function toldOf({ point, source }: LostLogExamined, nowMs: number): NonNullable<PromoteReport["newLog"]> {
  const { offset: after, timeMs } = point;
  return { after, at: new Date(timeMs).toISOString(), ageMs: Math.max(0, Math.round(nowMs - timeMs)), source };
}
