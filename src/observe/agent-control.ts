import type { CaptureAgent } from "../capture/capture-agent.ts";
import { decodeRecordHeader } from "../event/codec.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { ArchiveAgent } from "../replica/archive/archive-agent.ts";
import type { ReplicaAgent } from "../replica/replica-agent.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import type { ControlHandler } from "./control-server.ts";
import {
  type AgentPart,
  buildStatusReport,
  type FenceStatus,
  type StatusReport,
  type StatusSources,
} from "./status-report.ts";
import { type SyncReport, type SyncRequest, syncRequest, syncWith } from "./sync-control.ts";
import { type SwitchoverReport, type SwitchoverRequest, switchoverRequest } from "./switchover-control.ts";

/** A log that does not answer must not keep `status` from answering. */
const LOG_ANSWER_MS = 1500;
const MARK_NAME = /^[\p{L}\p{N}._:-]{1,128}$/u;

export interface PromoteRequest {
  readonly force: boolean;
  readonly dryRun: boolean;
  /** How long the standby may take to apply what the log holds. */
  readonly timeoutMs: number;
}

/** What became of a promotion. */
export interface PromoteReport {
  readonly ok: true;
  readonly epoch: number;
  /** Of the record that begins the epoch. */
  readonly offset: number;
  /** What the log holds and the promoted standby does not. */
  readonly lost: { readonly offsets: number | null; readonly ms: number | null };
  readonly durationMs: number;
  readonly hooks: readonly { readonly command: string; readonly ok: boolean; readonly outcome: string }[];
  /** Nothing was done. */
  readonly dryRun?: true;
  /** The log was lost: what its end was is not known, and a new one goes on behind this. */
  readonly newLog?: { readonly after: number; readonly at: string; readonly ageMs: number; readonly source: string };
  /** It had been promoted before. */
  readonly already?: true;
}

/** What a process of ours runs at the moment; parts that are not there (yet) are undefined. */
export interface LiveAgents {
  readonly set: string;
  readonly objectiveMs: number;
  readonly clock: Clock;
  readonly self: AgentPart;
  readonly capture: CaptureAgent | undefined;
  /** Why the application of this host is not to write; undefined: it may. */
  readonly fence?: FenceStatus | undefined;
  readonly replica: ReplicaAgent | undefined;
  readonly archive: ArchiveAgent | undefined;
  /** Of an agent that keeps a standby, or was promoted. */
  readonly promote?: ((request: PromoteRequest) => Promise<PromoteReport>) | undefined;
  /** Of an agent that captures. */
  readonly switchover?: ((request: SwitchoverRequest, asked: AbortSignal) => Promise<SwitchoverReport>) | undefined;
  readonly log: ChangeLog | undefined;
}

/** The answers of an agent on its control socket. `live` is asked at every request. */
export function agentHandlers(live: () => LiveAgents): Readonly<Record<string, ControlHandler>> {
  return {
    "GET /status": () => statusOf(live()),
    "POST /mark": (body) => markOn(live(), body),
    "POST /rotate-key": () => rotateKeyOn(live()),
    "POST /sync": async (body, signal) => syncOn(live(), syncRequest(body), signal),
    "POST /promote": (body) => promoteOn(live(), promoteRequest(body)),
    "POST /switchover": async (body, signal) => switchoverOn(live(), switchoverRequest(body), signal),
    "POST /base": (_, signal) => baseOn(live(), signal),
  };
}

/** What `status` of this process says. */
export async function statusOf(agents: LiveAgents): Promise<StatusReport> {
  const { set, objectiveMs, clock, capture, fence, replica, archive, self } = agents;
  return buildStatusReport({
    set,
    objectiveMs,
    nowMs: clock.now(),
    ...(agents.log ? await lookAtLog(agents.log) : {}),
    capture: capture?.status(),
    fence,
    replica: replica?.status(),
    repositories: archive?.status(),
    trim: archive?.trim(),
    agents: [self],
  });
}

type LogSources = Pick<StatusSources, "log" | "newest" | "replicas">;

/** Bounds, newest event and who reads it; empty when the log does not answer soon. */
export async function lookAtLog(log: ChangeLog): Promise<LogSources> {
  using late = new Deadline(LOG_ANSWER_MS);
  const looked = readHead(log).catch(() => ({}));
  // Awaited here: the deadline ends with this scope.
  return await Promise.race([looked, late.passed.then(() => ({}))]);
}

/** Bounds, newest event and who reads it. @throws what the log throws */
export async function readHead(log: ChangeLog): Promise<LogSources> {
  const bounds = await log.bounds();
  const newest = bounds.last > 0 ? await log.get(bounds.last) : undefined;
  const header = newest && decodeRecordHeader(newest);
  // Whoever may read the log may not know who else does.
  const replicas = await log.replicas().catch(() => []);
  return {
    replicas,
    log: { ...bounds, location: log.location },
    ...(header ? { newest: { epoch: header.epoch, timeMs: header.timeMs } } : {}),
  };
}

class Deadline implements Disposable {
  readonly passed: Promise<void>;
  readonly #cancel = new AbortController();

  constructor(ms: number) {
    this.passed = sleep(ms, this.#cancel.signal);
  }

  [Symbol.dispose](): void {
    this.#cancel.abort();
  }
}

async function markOn(agents: LiveAgents, body: Readonly<Record<string, unknown>>): Promise<unknown> {
  const name = requireMarkName(body["name"]);
  const { offset: at, atMs } = await capturing(agents).mark(name);
  return { ok: true, name, offset: at, at: new Date(atMs).toISOString(), ...waitedFor(agents) };
}

async function rotateKeyOn(agents: LiveAgents): Promise<unknown> {
  const { key, offset: at } = await capturing(agents).rotateKey();
  return { ok: true, key, offset: at };
}

/** @throws USAGE */
export function requireMarkName(name: unknown): string {
  if (typeof name === "string" && MARK_NAME.test(name)) return name;
  throw new TidemarkError("USAGE", `${JSON.stringify(name)} is no name for a mark`, {
    hint: "Use 1 to 128 letters, digits, and . _ : - without spaces.",
  });
}

/** What is in the log, and on standbys. @throws as syncWith */
export async function syncOn(agents: LiveAgents, request: SyncRequest, signal: AbortSignal): Promise<SyncReport> {
  const { replica, log, clock } = agents;
  const sources = { capture: () => capturing(agents), replica, log, clock, without: () => waitedFor(agents) };
  return syncWith(sources, request, signal);
}

/** @throws USAGE where no standby is, and as Promotion.promote */
export async function promoteOn({ promote, self }: LiveAgents, request: PromoteRequest): Promise<PromoteReport> {
  if (promote) return promote(request);
  throw new TidemarkError("USAGE", `the agent here is \`tidemark ${self.role}\`: it is the primary's`, {
    hint: "Promote on the host of a standby, where `tidemark replica` runs.",
  });
}

/** @throws as PrimaryPart.switchover */
async function switchoverOn(
  agents: LiveAgents,
  request: SwitchoverRequest,
  asked: AbortSignal,
): Promise<SwitchoverReport> {
  capturing(agents);
  invariant(agents.switchover, "who captures can hand over");
  return agents.switchover(request, asked);
}

function promoteRequest({ force, dryRun, timeoutMs }: Readonly<Record<string, unknown>>): PromoteRequest {
  return { force: force === true, dryRun: dryRun === true, timeoutMs: Number(timeoutMs) || 0 };
}

async function baseOn({ archive, self }: LiveAgents, signal: AbortSignal): Promise<unknown> {
  if (archive) return { ok: true, bases: await archive.createBases(signal) };
  const capture = self.role === "capture";
  throw new TidemarkError(
    "AGENT_NOT_RUNNING",
    capture
      ? "the agent here captures; the replica makes bases"
      : "no repository is configured, or the standby is not up yet",
    {
      hint: capture
        ? "Run this command where `tidemark replica` runs."
        : "Give --repository, or repository: in tidemark.yml, to the agent; `tidemark status` shows how far it is.",
    },
  );
}

/** Databases and trees that cannot be captured just now, or not as they are: nobody knows what was committed in them, or changed. */
function waitedFor({ capture }: LiveAgents): { without?: string[] } {
  const { databases = [], files = [] } = capture?.status() ?? {};
  const waiting = databases.filter(({ state }) => state === "waiting");
  const behind = files.filter(({ state, restless }) => state === "halted" || restless > 0);
  const without = [...waiting, ...behind].map(({ name }) => name);
  return without.length === 0 ? {} : { without };
}

function capturing({ capture, fence, self }: LiveAgents): CaptureAgent {
  if (capture) return capture;
  if (fence && !fence.final) {
    throw new TidemarkError("AGENT_NOT_RUNNING", `nothing is captured for a moment: ${fence.reason}`, {
      hint: "Try again when `tidemark status` shows what became of it.",
    });
  }
  if (fence) {
    throw new TidemarkError("FENCED", `this host is fenced: ${fence.reason}`, {
      hint: "Another host is the primary: run this command there.",
    });
  }
  const what =
    self.role === "replica" ? "the agent here is a replica and captures nothing" : `the capture is ${self.state}`;
  throw new TidemarkError("AGENT_NOT_RUNNING", self.problem === null ? what : `${what}: ${self.problem}`, {
    hint:
      self.role === "replica"
        ? "Run this command on the primary, where `tidemark capture` runs."
        : "Try again when `tidemark status` shows that it captures.",
  });
}
