import type { CaptureStatus, DatabaseCaptureStatus, TreeCaptureStatus } from "../capture/capture-agent.ts";
import type { LogBounds, RegisteredReplica } from "../log/change-log.ts";
import type { ScrubStatus } from "../sqlite/page-comparison.ts";
import {
  type ArchivePoint,
  forgottenText,
  type RepositoryStatus,
  type TrimStatus,
} from "../replica/archive/archive-status.ts";
import type {
  DatabaseReplicaStatus,
  ReplicaStatus,
  TreeReplicaStatus,
  TreeScrubStatus,
} from "../replica/replica-agent.ts";

/** `status --json`: the names scripts rely on, of product.md, and more beside them. Times are RFC 3339 in UTC. */
export interface StatusReport {
  readonly set: string | null;
  readonly epoch: number | null;
  readonly log: LogPart | null;
  readonly capture: CapturePart | null;
  readonly standby: StandbyPart | null;
  /** Why the application of this host is not to write; null: it may. */
  readonly fence: FenceStatus | null;
  /** The first of `repositories`, for scripts; nothing in it when there is none. */
  readonly repository: Pick<RepositoryPart, "base" | "archived" | "bytes">;
  readonly repositories: readonly RepositoryPart[];
  /** The standbys that said beside the log how far they are. */
  readonly replicas: readonly ReplicaPart[];
  readonly rpo: {
    /** What would be lost if the primary died now, as far as is known; null when it is not. */
    readonly actualMs: number | null;
    readonly objectiveMs: number;
    readonly ok: boolean | null;
  };
  readonly alerts: readonly Alert[];
  readonly agents: readonly AgentPart[];
}

export interface LogPart {
  readonly first: number;
  readonly last: number;
  readonly bytes: number;
  /** Time of the event at `last`. */
  readonly at: string | null;
  readonly location: string;
  /** What keeps it from being trimmed; null when nothing does, or the agent asked does not trim it. */
  readonly heldBy: string | null;
}

export interface ReplicaPart {
  readonly id: string;
  readonly host: string;
  /** Its directory there. */
  readonly standby: string;
  /** Nothing up to here is needed by it any more. */
  readonly offset: number;
  /** When it said so. */
  readonly at: string | null;
  /** Of that. */
  readonly ageMs: number;
  readonly lagEvents: number;
}

export interface CapturePart {
  readonly offset: number;
  readonly at: string | null;
  readonly lagMs: number;
  /** Commits that did not wait for all files that changed before them, since the start. */
  readonly overtaken: number;
  readonly databases: readonly DatabaseCaptureStatus[];
  readonly files: readonly TreeCaptureStatus[];
}

/** Of a primary whose application is not to write. */
export interface FenceStatus {
  readonly mode: "lock" | "hook" | "none";
  /** true: another host is the primary. false: only for now, see `reason`. */
  readonly final: boolean;
  readonly reason: string;
  /** Of the writer that is fenced, and the last offset that it knew to be in the log; 0 when that is not known. */
  readonly epoch: number;
  readonly offset: number;
  /** RFC 3339; null when it is not known. */
  readonly at: string | null;
  /** Databases whose write lock is held. */
  readonly locked: number;
  /** Those whose lock is not to be had yet, and why. */
  readonly waiting: readonly { readonly path: string; readonly problem: string }[];
}

export interface StandbyPart {
  readonly offset: number;
  readonly at: string | null;
  readonly lagMs: number;
  readonly lagEvents: number;
  readonly verified: boolean;
  readonly state: ReplicaStatus["state"];
  readonly lastApplyMs: number;
  readonly databases: readonly DatabaseReplicaStatus[];
  readonly trees: readonly TreeReplicaStatus[];
  readonly treeScrub: TreeScrubStatus;
}

export interface RepositoryPart {
  readonly location: string;
  /** The newest base that was read back after it was written. */
  readonly base: PointPart | null;
  /** Everything up to here is in its segments. */
  readonly archived: PointPart | null;
  /** Stored in all; null until it was reached. */
  readonly bytes: number | null;
  /** What the place was asked for since the agent started, repetitions included. */
  readonly requests: number;
  readonly problem: string | null;
  /** Pages of a base under way. */
  readonly baseUnderWay: { readonly done: number; readonly total: number } | null;
  /** Bases given up since the start because a WAL of the standby had to be emptied. */
  readonly basesAbandoned: number;
  /** When the replica applied retention here the last time since its start. */
  readonly expired: string | null;
}

interface PointPart {
  readonly offset: number;
  readonly at: string | null;
}

export interface Alert {
  readonly severity: "warning" | "critical";
  readonly message: string;
}

/** A process of ours and what its parts are doing. */
export interface AgentPart {
  readonly role: "run" | "capture" | "replica";
  readonly pid: number;
  readonly state: "starting" | "running" | "fenced" | "stopping";
  readonly problem: string | null;
}

export interface StatusSources {
  readonly set: string | undefined;
  readonly objectiveMs: number;
  readonly nowMs: number;
  readonly log?: (LogBounds & { readonly location: string }) | undefined;
  /** Of the newest event; for when no capture says it. */
  readonly newest?: { readonly epoch: number; readonly timeMs: number } | undefined;
  readonly capture?: CaptureStatus | undefined;
  readonly fence?: FenceStatus | undefined;
  readonly replica?: ReplicaStatus | undefined;
  readonly repositories?: readonly RepositoryStatus[] | undefined;
  readonly replicas?: readonly RegisteredReplica[] | undefined;
  readonly trim?: TrimStatus | undefined;
  readonly agents: readonly AgentPart[];
}

export function buildStatusReport(sources: StatusSources): StatusReport {
  const { capture, replica, log } = sources;
  const rpo = rpoOf(sources);
  const repositories = (sources.repositories ?? []).map(repositoryOf);
  const [first] = repositories;
  return {
    set: sources.set ?? null,
    epoch: capture?.epoch ?? sources.newest?.epoch ?? null,
    log: log ? logOf(log, sources) : null,
    capture: capture ? captureOf(capture) : null,
    standby: replica ? standbyOf(replica) : null,
    fence: sources.fence ?? null,
    repository: { base: first?.base ?? null, archived: first?.archived ?? null, bytes: first?.bytes ?? null },
    repositories,
    replicas: replicasOf(sources),
    rpo,
    alerts: [
      ...agentAlerts(sources.agents),
      ...fenceAlerts(sources.fence),
      ...captureAlerts(capture),
      ...standbyAlerts(replica),
      ...repositoryAlerts(repositories),
      ...trimAlerts(sources.trim),
      ...rpoAlerts(rpo),
    ],
    agents: sources.agents,
  };
}

function logOf(
  { first, last, bytes, location }: NonNullable<StatusSources["log"]>,
  { newest, trim }: StatusSources,
): LogPart {
  return { first, last, bytes, at: isoOf(newest?.timeMs ?? 0), location, heldBy: trim?.heldBy ?? null };
}

function replicasOf({ replicas = [], log, nowMs }: StatusSources): ReplicaPart[] {
  return replicas.map(({ id, host, standby, offset, atMs }) => ({
    id,
    host,
    standby,
    offset,
    at: isoOf(atMs),
    ageMs: Math.max(0, nowMs - atMs),
    lagEvents: Math.max(0, (log?.last ?? 0) - offset),
  }));
}

function trimAlerts(trim: TrimStatus | undefined): Alert[] {
  if (!trim) return [];
  const held = trim.overdue ? [`the log is not trimmed: ${trim.heldBy ?? ""}`] : [];
  return [...held, ...trim.forgotten.map(forgottenText)].map((message) => ({ severity: "warning", message }));
}

function captureOf({ offset, atMs, lagMs, overtaken, databases, files }: CaptureStatus): CapturePart {
  return { offset, at: isoOf(atMs), lagMs, overtaken, databases, files };
}

function standbyOf(replica: ReplicaStatus): StandbyPart {
  const { offset, atMs, lagMs, lagEvents, verified, state, lastApplyMs, databases, trees, treeScrub } = replica;
  return { offset, at: isoOf(atMs), lagMs, lagEvents, verified, state, lastApplyMs, databases, trees, treeScrub };
}

function repositoryOf(repository: RepositoryStatus): RepositoryPart {
  const { location, base, archived, bytes, problem, requests, baseUnderWay, basesAbandoned, expiredMs } = repository;
  return {
    location,
    base: pointOf(base),
    archived: pointOf(archived),
    bytes: bytes ?? null,
    requests,
    problem: problem ?? null,
    baseUnderWay: baseUnderWay ?? null,
    basesAbandoned,
    expired: expiredMs === undefined ? null : isoOf(expiredMs),
  };
}

function pointOf(point: ArchivePoint | undefined): PointPart | null {
  return point ? { offset: point.offset, at: isoOf(point.atMs) } : null;
}

function isoOf(ms: number): string | null {
  return ms > 0 ? new Date(ms).toISOString() : null;
}

/**
 * A running capture knows how long its oldest commit has been waiting. Without one the newest event (a heartbeat, when
 * there is nothing else) says since when commits may have passed unseen.
 */
function rpoOf({ capture, newest, nowMs, objectiveMs }: StatusSources): StatusReport["rpo"] {
  const protectedByNow =
    capture?.databases.every(({ state }) => PROTECTED.has(state)) &&
    capture.files.every(({ state }) => state === "following");
  const since = capture && protectedByNow ? capture.lagMs : newest && Math.max(0, nowMs - newest.timeMs);
  const actualMs = since ?? null;
  // A first copy under way protects nothing yet, however fresh the log is.
  const ok = actualMs === null ? null : actualMs <= objectiveMs && protectedByNow !== false;
  return { actualMs, objectiveMs, ok };
}

/** Nothing that was committed can be missing; of a vanished database there is no more to come. */
const PROTECTED: ReadonlySet<DatabaseCaptureStatus["state"]> = new Set(["following", "resting", "vanished"]);

function agentAlerts(agents: readonly AgentPart[]): Alert[] {
  return agents.flatMap(({ role, problem }) =>
    problem === null ? [] : [{ severity: "critical" as const, message: `${role}: ${problem}` }],
  );
}

function fenceAlerts(fence: FenceStatus | undefined): Alert[] {
  if (!fence) return [];
  const { reason, waiting } = fence;
  return [
    critical(`fenced: ${reason}`),
    ...waiting.map(({ path, problem }) => critical(`fence: ${path} can still be written: ${problem}`)),
  ];
}

function captureAlerts(capture: CaptureStatus | undefined): Alert[] {
  if (!capture) return [];
  const troubled = capture.databases.filter(({ problem, state }) => problem !== undefined && state !== "vanished");
  return [
    ...troubled.map(({ name, problem }) => critical(`capture of ${name}: ${problem ?? ""}`)),
    ...capture.files.flatMap(treeAlert),
    ...capture.databases.flatMap(({ name, scrub }) =>
      scrubAlert(`capture of ${name}`, scrub, "of its file that no commit had changed, and shipped them"),
    ),
    ...capture.warnings.map((message) => ({ severity: "warning" as const, message: `capture: ${message}` })),
  ];
}

function treeAlert({ name, state, problem }: TreeCaptureStatus): Alert[] {
  if (problem === undefined) return [];
  return [{ severity: state === "halted" ? "critical" : "warning", message: `files of ${name}: ${problem}` }];
}

function critical(message: string): Alert {
  return { severity: "critical", message };
}

/** Stays until a later scrub finds everything right. */
function scrubAlert(where: string, { at, differing }: ScrubStatus, what: string): Alert[] {
  if (differing === 0) return [];
  const pages = differing === 1 ? "a page" : `${differing} pages`;
  return [
    { severity: "warning", message: `${where}: the scrub of ${at ?? ""} found ${pages} ${what}; look at the disk` },
  ];
}

function standbyAlerts(replica: ReplicaStatus | undefined): Alert[] {
  if (!replica) return [];
  const alerts: Alert[] = [];
  const severity = replica.state === "halted" ? "critical" : "warning";
  if (replica.problem !== undefined) alerts.push({ severity, message: `standby: ${replica.problem}` });
  if (!replica.verified) alerts.push({ severity: "critical", message: "standby: its contents did not match the log" });
  for (const { name, scrub } of replica.databases) {
    alerts.push(...scrubAlert(`standby copy of ${name}`, scrub, "damaged, and repaired them from the log"));
  }
  return [...alerts, ...treeScrubAlerts(replica.treeScrub)];
}

function repositoryAlerts(repositories: readonly RepositoryPart[]): Alert[] {
  return repositories.flatMap(({ location, problem }) =>
    problem === null ? [] : [critical(`repository ${location}: ${problem}`)],
  );
}

function treeScrubAlerts({ at, differing, strays }: TreeScrubStatus): Alert[] {
  const found = (count: number, what: string): Alert[] =>
    count === 0
      ? []
      : [
          {
            severity: "warning",
            message: `standby: the scrub of ${at ?? ""} found ${count} ${count === 1 ? "place" : "places"} of its trees ${what}`,
          },
        ];
  return [
    ...found(differing, "that were not what the log says, and repaired them; look at the disk and at who writes there"),
    ...found(strays, "that the log knows nothing of; who put files there?"),
  ];
}

function rpoAlerts({ actualMs, objectiveMs, ok }: StatusReport["rpo"]): Alert[] {
  if (ok !== false || actualMs === null || actualMs <= objectiveMs) return [];
  return [{ severity: "critical", message: `RPO: ${actualMs} ms may be lost, the objective is ${objectiveMs} ms` }];
}

/** What several agents of one set said (capture here, replica there), as one report. */
export function mergeReports(reports: readonly StatusReport[]): StatusReport | undefined {
  const [first, ...others] = reports;
  if (!first) return undefined;
  return others.reduce(
    (merged, other) => ({
      ...merged,
      set: merged.set ?? other.set,
      epoch: merged.epoch ?? other.epoch,
      log: [merged.log, other.log].find((log) => log && log.heldBy !== null) ?? merged.log ?? other.log,
      replicas: merged.replicas.length > 0 ? merged.replicas : other.replicas,
      capture: merged.capture ?? other.capture,
      standby: merged.standby ?? other.standby,
      fence: merged.fence ?? other.fence,
      ...(merged.repositories.length > 0 ? {} : { repository: other.repository, repositories: other.repositories }),
      // Only the one that captures knows what is not in the log yet.
      rpo: merged.capture ? merged.rpo : other.capture ? other.rpo : merged.rpo,
      alerts: [...merged.alerts, ...other.alerts],
      agents: [...merged.agents, ...other.agents],
    }),
    first,
  );
}
