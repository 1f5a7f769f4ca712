import type { Chunk } from "../event/chunk-list.ts";
import type { Offset } from "../event/positions.ts";
import type { StandbyPosition } from "../log/change-log.ts";
import { readLogIdentity, type LogIdentity } from "../log/log-reader.ts";
import { sleep } from "../runtime/clock.ts";
import { hasCode, TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { retry } from "../runtime/retry.ts";
import { ImageRequests } from "./archive/image-requests.ts";
import type { StandbyImage } from "./archive/standby-image.ts";
import { NO_TREE_SCRUB } from "./files/tree-scrub.ts";
import type { DatabaseReplicaStatus, ReplicaAgent, ReplicaStatus, TreeReplicaStatus } from "./replica-agent.ts";
import { LookBack } from "./look-back.ts";
import { requireNotDiverged } from "./diverged.ts";
import { reseedIfLeftBehind } from "./left-behind.ts";
import { ReplicaProgress } from "./replica-progress.ts";
import { ReplicaRun } from "./replica-run.ts";
import { damageOf, type RepairContext, repairStandby } from "./repair-standby.ts";
import type { StandbyDatabase } from "./standby-database.ts";
import { hex, requireGoingOn } from "./standby-errors.ts";
import { StandbyRegistration } from "./standby-registration.ts";
import type { StandbyPaths } from "./standby-paths.ts";
import type { StandbyState } from "./standby-state.ts";
import type { StartReplicaOptions } from "./start-replica.ts";

/** Between two looks at a log that holds nothing yet. */
const EMPTY_LOG_MS = 500;
const MAX_REPAIRS = 3;

export interface ReplicaOptions extends StartReplicaOptions {
  readonly paths: StandbyPaths;
  readonly state: StandbyState;
}

/** The agent: waits for its log, follows it, and begins again from the recorded position after what a retry can heal. */
export class Replica implements ReplicaAgent {
  readonly ready: Promise<void>;
  readonly done: Promise<void>;
  readonly #options: ReplicaOptions;
  readonly #progress: ReplicaProgress;
  readonly #ready = Promise.withResolvers<void>();
  readonly #images = new ImageRequests();
  readonly #ended = new AbortController();
  readonly #lookBack: LookBack;
  readonly #registration: StandbyRegistration;
  #run: ReplicaRun | undefined;
  #databases: readonly DatabaseReplicaStatus[] = [];
  #trees: readonly TreeReplicaStatus[] = [];
  #treeScrub = NO_TREE_SCRUB;

  constructor(options: ReplicaOptions) {
    this.#options = options;
    this.#progress = new ReplicaProgress(options.clock);
    this.#lookBack = new LookBack({ ...options, repositories: options.repositories ?? [] });
    const position = (): StandbyPosition => this.#position();
    this.#registration = new StandbyRegistration({ ...options, id: options.state.id, position });
    this.ready = this.#ready.promise;
    this.done = this.#live();
    // Whoever wants to know awaits them; a rejection that nobody awaits must not end the process.
    this.ready.catch(() => undefined);
    this.done.catch(() => undefined);
  }

  status(): ReplicaStatus {
    const { problem } = this.#progress;
    const waiting = this.#run?.checkpointer.waitingFor;
    this.#look();
    return {
      set: this.#options.set,
      ...this.#progress.fields(),
      problem: waiting
        ? `readers keep the WAL of ${waiting.path} from being emptied; it is at its limit, so apply waits for them`
        : problem?.message,
      verified: this.#isVerified,
      databases: this.#databases,
      trees: this.#trees,
      treeScrub: this.#treeScrub,
    };
  }

  waitApplied(offset: Offset, signal: AbortSignal): Promise<void> {
    return offset <= this.#progress.applied ? Promise.resolve() : this.#progress.waiters.wait(offset, signal);
  }

  image(known: ReadonlyMap<string, Offset>, signal: AbortSignal): Promise<StandbyImage> {
    return this.#images.request(known, AbortSignal.any([signal, this.#ended.signal]));
  }

  async content(chunk: Chunk): Promise<Uint8Array | undefined> {
    try {
      return await this.#run?.set.files.content(chunk);
    } catch (error) {
      if (hasCode(error, "LOG_GAP", "RECORD_INVALID")) return undefined;
      throw error;
    }
  }

  recorded(): { readonly id: string; readonly offset: Offset } {
    return this.#registration;
  }

  async #live(): Promise<void> {
    const { signal, logger, set } = this.#options;
    const registering = this.#registration.run();
    try {
      const onRetry = (error: TidemarkError, delayMs: number): void => {
        this.#progress.problem = error;
        logger.warn({ code: error.code, hint: error.hint, delayMs }, error.message);
      };
      await retry(() => this.#follow(), { signal, onRetry });
      this.#end("stopped", stopped(set));
    } catch (error) {
      const failure = toTidemarkError(error);
      if (signal.aborted && (failure.retryable || failure.code === "INTERRUPTED"))
        return this.#end("stopped", stopped(set));
      this.#progress.problem = failure;
      this.#end("halted", failure);
      throw failure;
    } finally {
      this.#options.state.close();
      await this.#lookBack[Symbol.asyncDispose]();
      if (signal.aborted) await registering;
    }
  }

  #end(state: "stopped" | "halted", reason: TidemarkError): void {
    this.#progress.state = state;
    this.#ended.abort();
    this.#progress.waiters.end(reason);
    this.#ready.reject(reason);
  }

  /** What can be put right without anybody's help is, a few times in a row: a disk that decays faster is given up. */
  async #follow(): Promise<void> {
    for (let repairs = 0; ; repairs += 1) {
      try {
        return await this.#followOnce();
      } catch (error) {
        if (repairs >= MAX_REPAIRS || !(await this.#repaired(error))) throw error;
      }
    }
  }

  async #repaired(error: unknown): Promise<boolean> {
    const { log, set, signal, logger } = this.#options;
    if (!hasCode(error, "INTEGRITY", "STANDBY_DIVERGED", "CHECKSUM_MISMATCH")) return false;
    logger.warn({ code: error.code }, error.message);
    try {
      const identity = await readLogIdentity(log, signal);
      return identity.set === set && (await repairStandby(this.#context(identity)));
    } catch (failure) {
      requireGoingOn(signal);
      throw this.#explained(failure);
    }
  }

  #context(identity: LogIdentity): RepairContext {
    return { ...this.#options, identity, progress: this.#progress, lookBack: this.#lookBack };
  }

  #explained(error: unknown): TidemarkError {
    return toTidemarkError(damageOf(error, `the standby ${this.#options.paths.root}`));
  }

  async #followOnce(): Promise<void> {
    try {
      const identity = await this.#identity();
      if (!identity) return;
      this.#progress.state = "catching-up";
      const onCaughtUp = (): void => {
        this.#progress.state = "following";
        this.#progress.problem = undefined;
        this.#ready.resolve();
      };
      const context = this.#context(identity);
      await requireNotDiverged(context);
      await reseedIfLeftBehind(context);
      this.#run = new ReplicaRun({
        ...this.#options,
        ...context,
        images: this.#images,
        registration: this.#registration,
        onCaughtUp,
      });
      await this.#run.run();
    } catch (error) {
      throw this.#explained(error);
    } finally {
      this.#look();
      this.#run = undefined;
    }
  }

  #position(): StandbyPosition {
    const { applied } = this.#progress;
    return { applied, verified: this.#isVerified, promotable: this.#options.onOffered !== undefined };
  }

  get #isVerified(): boolean {
    const { diverged, problem } = this.#progress;
    return !diverged && !hasCode(problem, "CHECKSUM_MISMATCH", "STANDBY_DIVERGED", "STANDBY_WRITTEN");
  }

  #look(): void {
    const run = this.#run;
    const progress = this.#progress;
    if (!run) return;
    this.#databases = run.set.databases.map((database) => databaseStatus(database, { run, progress }));
    this.#trees = run.set.files.trees.map((tree) => ({ ...tree, repairs: progress.repairsOf(tree.name) }));
    this.#treeScrub = run.treeScrub.status();
  }

  /** Undefined when stopped before there was anything in the log. */
  async #identity(): Promise<LogIdentity | undefined> {
    const { log, set, signal } = this.#options;
    while (!signal.aborted) {
      try {
        const identity = await readLogIdentity(log, signal);
        if (identity.set === set) return identity;
        throw otherSet(log.location, identity.set, set);
      } catch (error) {
        if (!hasCode(error, "LOG_EMPTY")) throw error;
        this.#progress.problem = error;
      }
      await sleep(EMPTY_LOG_MS, signal);
    }
    return undefined;
  }
}

interface StatusSources {
  readonly run: ReplicaRun;
  readonly progress: ReplicaProgress;
}

function databaseStatus(database: StandbyDatabase, { run, progress }: StatusSources): DatabaseReplicaStatus {
  const { lastCheck } = database;
  return {
    name: database.name,
    path: database.path,
    offset: database.offset,
    pages: database.index?.sizePages ?? 0,
    checksum: hex(database.index?.checksum ?? 0n),
    walBytes: database.writer?.walBytes ?? 0,
    checked: database.checked,
    scrub: {
      at: lastCheck && new Date(lastCheck.atMs).toISOString(),
      pages: lastCheck?.pages ?? 0,
      differing: lastCheck?.differing ?? 0,
      running: run.scrub.runningOf(database),
    },
    repairs: progress.repairsOf(database.name),
  };
}

function stopped(set: string): TidemarkError {
  return new TidemarkError("INTERRUPTED", `the replica of set ${set} was stopped`, {
    hint: "Start it again to go on.",
  });
}

function otherSet(location: string, found: string, expected: string): TidemarkError {
  return new TidemarkError("LOG_FOREIGN", `${location} is the log of set ${found}, not of ${expected}`, {
    hint: "Correct `set` or `log` in the configuration.",
  });
}
