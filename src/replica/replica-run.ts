import type { LogEvent } from "../event/kinds.ts";
import { offset as toOffset, type Offset } from "../event/positions.ts";
import type { LogBounds } from "../log/change-log.ts";
import { hashAt, readEvents, type LogIdentity } from "../log/log-reader.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { errnoOf, hasCode, type TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { retry } from "../runtime/retry.ts";
import { Waker } from "../runtime/waker.ts";
import type { ImageRequests } from "./archive/image-requests.ts";
import { StandbyImage } from "./archive/standby-image.ts";
import { Checkpointer } from "./checkpointer.ts";
import { TreeScrub } from "./files/tree-scrub.ts";
import type { LookBack } from "./look-back.ts";
import { damageOf } from "./repair-standby.ts";
import type { ReplicaProgress } from "./replica-progress.ts";
import type { StandbyPaths } from "./standby-paths.ts";
import { copiesOf, entriesOf, findSeed, type Seed } from "./seed.ts";
import { StandbyScrub } from "./standby-scrub.ts";
import { StandbySet } from "./standby-set.ts";
import type { StandbyRegistration } from "./standby-registration.ts";
import type { StandbyState } from "./standby-state.ts";
import type { StartReplicaOptions } from "./start-replica.ts";

/** A position is recorded after this long or this much. */
const RECORD_MS = 1000;
const RECORD_BYTES = 64 * 1024 * 1024;
const TICK_MS = 250;
const LOG_GONE = ["LOG_UNREACHABLE", "LOG_RECREATED", "LOG_REGRESSED"] as const;
/** No offset is as high: nothing is shown yet. */
const NEVER = toOffset(Number.MAX_SAFE_INTEGER);
/** What a timer can wait at most. */
const LONGEST_WAIT_MS = 2 ** 31 - 1;

export interface RunContext extends StartReplicaOptions {
  readonly paths: StandbyPaths;
  readonly state: StandbyState;
  readonly identity: LogIdentity;
  readonly progress: ReplicaProgress;
  readonly images: ImageRequests;
  readonly lookBack: LookBack;
  readonly registration: StandbyRegistration;
  readonly onCaughtUp: () => void;
}

/** A batch that is under way, and whether it is there, or will not come. */
interface Reading<T> {
  readonly batch: Promise<T>;
  readonly settled: () => boolean;
}

/**
 * From the recorded position on: read a batch, prove each event, show the batch as one commit a database, now and
 * then record. Up to the head found at the start nothing is shown, then all of it at once: on a standby that died
 * between showing and recording, showing old events again one by one would show states that the primary never had.
 */
export class ReplicaRun {
  readonly set: StandbySet;
  readonly checkpointer: Checkpointer;
  readonly scrub: StandbyScrub;
  readonly treeScrub: TreeScrub;
  readonly #context: RunContext;
  readonly #progress: ReplicaProgress;
  /** Aborts with the caller's signal, and at the end of the run. */
  readonly #signal: AbortSignal;
  readonly #halt = new AbortController();
  /** Of the loop: a batch is there, or somebody wants an image. */
  readonly #waker = new Waker();
  /** Of the last records of batches since the position was recorded: the log may be away when it is recorded next. */
  readonly #hashes = new Map<Offset, Uint8Array>();
  #following = false;
  #failure: unknown;
  #recordedAtMs: number;
  #unrecordedBytes = 0;
  /** The writer wants to hear how far this standby is, once it has shown that. */
  #asked = false;

  constructor(context: RunContext) {
    this.#context = context;
    this.#progress = context.progress;
    this.#signal = AbortSignal.any([context.signal, this.#halt.signal]);
    this.#recordedAtMs = context.clock.monotonic();
    this.checkpointer = new Checkpointer(context.config, context.clock);
    this.scrub = new StandbyScrub({ ...context, config: context.config.scrub, signal: this.#signal });
    this.treeScrub = new TreeScrub({ ...context, config: context.config.scrub, signal: this.#signal });
    this.set = new StandbySet(context);
    context.images.onRequest = () => this.#waker.wake();
  }

  /** Resolves after a stop, with everything shown recorded. */
  async run(): Promise<void> {
    try {
      await this.#follow();
    } catch (error) {
      this.#failure ??= error;
    }
    try {
      // Also when the log is gone: what is shown is as it was there.
      const proved = this.#failure === undefined || hasCode(this.#failure, ...LOG_GONE);
      if (proved && !this.#unsettled) await this.#record();
    } catch (error) {
      this.#failure ??= error;
    } finally {
      this.#halt.abort();
      this.treeScrub.close();
      this.set.close();
    }
    if (this.#failure !== undefined) throw toTidemarkError(this.#failure);
  }

  get #unsettled(): boolean {
    return !this.#following || this.set.pending;
  }

  async #follow(): Promise<void> {
    const { log, state } = this.#context;
    const stored = state.position;
    const bounds = await log.bounds();
    this.#progress.sawHead(bounds.last);
    if (!stored) this.set.beginAfter(toOffset(bounds.first - 1));
    this.#context.registration.at(this.set.taken, { begins: true });
    const trimmed = bounds.first > (stored?.offset ?? 0) + 1;
    const previousHash = trimmed ? await this.#lookBack(bounds) : stored?.hash;
    const hash = previousHash ? { previousHash } : {};
    if (this.set.taken >= bounds.last) await this.#show([]);
    const onBatch = (at: Offset, sha: Uint8Array): void => void this.#hashes.set(at, sha);
    const reading = { follow: true, freed: true, signal: this.#signal, onBatch };
    const events = readEvents(log, { after: this.set.taken, ...reading, ...hash });
    const read = (): Reading<Awaited<ReturnType<typeof events.next>>> => {
      let settled = false;
      const batch = events.next().finally(() => {
        settled = true;
        this.#waker.wake();
      });
      // Looked at only after the house is in order, which may take a while.
      batch.catch(() => undefined);
      return { batch, settled: () => settled };
    };
    let next = read();
    while (!this.#signal.aborted) {
      const result = await this.#orTick(next);
      if (result?.done) break;
      if (result) {
        await this.#apply(result.value, bounds.last);
        next = read();
      }
      if (this.#following) await this.#keepHouse();
    }
    // Reading ends at the abort; a batch that comes in this moment is read again after the next start.
  }

  /**
   * What the log holds no more, from the repositories: a base to begin with, when nothing was applied yet, and the events
   * that lead to the log. Returns the hash of the record after which the log is read.
   */
  async #lookBack(bounds: LogBounds): Promise<Uint8Array | undefined> {
    const { lookBack, identity, state, logger } = this.#context;
    const { logId } = identity;
    let hash = state.position?.hash;
    if (!state.position) {
      const seed = await findSeed(lookBack, { logId, bounds, signal: this.#signal });
      // The log may hold full copies of all databases.
      if (!seed) return undefined;
      logger.info(
        { base: seed.manifest.offset },
        `the log begins at offset ${bounds.first}: the standby is built from ${seed.repository.location}`,
      );
      await this.#takeBase(seed);
      hash = seed.manifest.hash;
    }
    const cursor = { logId, position: this.set.taken, hash };
    if (cursor.position >= bounds.first - 1) return hash;
    for await (const events of lookBack.events(cursor)) await this.#apply(events, NEVER);
    return cursor.hash;
  }

  async #takeBase(seed: Seed): Promise<void> {
    const { files } = this.set;
    files.beginSeed();
    for await (const event of copiesOf(seed, this.#signal)) await this.#apply([event], NEVER);
    for await (const entry of entriesOf(seed, this.#signal)) {
      files.seed(entry);
      if (files.heavy) await this.#apply([], NEVER);
    }
    this.set.seeded(seed.manifest);
    await this.#apply([], NEVER);
  }

  /**
   * The next batch, or undefined when there is something else to do meanwhile. Waits without a race: each lap of one would
   * stay with a batch that does not come while the log is quiet or away.
   */
  async #orTick<T>({ batch, settled }: Reading<T>): Promise<T | undefined> {
    const { databases } = this.set;
    if (!this.#following) return batch;
    const idle = !this.set.dirty && !this.checkpointer.due(databases);
    const tickMs = idle ? LONGEST_WAIT_MS : TICK_MS;
    await this.#waker.wait(Math.min(this.scrub.waitMs, this.treeScrub.waitMs, tickMs));
    return settled() ? batch : undefined;
  }

  async #apply(events: readonly LogEvent[], catchUpTo: Offset): Promise<void> {
    this.#progress.received(events);
    this.#asked ||= events.some(({ body }) => body.kind === "heartbeat" && body.asks !== undefined);
    try {
      for (const event of events) this.set.take(event);
    } catch (error) {
      // What was proved before a bad event is shown; the bad one and what follows never is. While catching up the
      // standby may be further already: then it stays as it is. Nor is half a commit that there was no room for.
      if (this.#following && !this.set.torn) await this.#show(events.filter((event) => event.offset <= this.set.taken));
      throw error;
    }
    const { files } = this.set;
    // A new standby is built in steps: nothing of it was ever seen that could go back.
    const built = !this.#following && this.#context.state.position === undefined && files.heavy;
    await this.#insist("the standby's trees", () => files.stage({ durable: this.#following }));
    if (this.set.taken >= catchUpTo) await this.#show(events);
    else if (built) await this.#showFilesEarly();
  }

  async #showFilesEarly(): Promise<void> {
    const { files } = this.set;
    await this.#insist("the standby's trees", async () => {
      await files.showPuts();
      await files.showRemovals({ complete: false });
      await files.sync();
    });
    files.commit();
  }

  /** One commit for each database that has something pending. */
  async #show(events: readonly LogEvent[]): Promise<void> {
    const { files, databases } = this.set;
    this.set.requireSeeded();
    await this.#insist("the standby's trees", async () => {
      await files.stage({ durable: this.#following });
      await files.showPuts();
    });
    crashPoint("files: shown before commits");
    for (const database of databases) {
      if (database.pending && !(await this.checkpointer.room(database, this.#signal))) return;
      await this.#insist(`the standby database ${database.path}`, () => database.show());
      this.#unrecordedBytes += database.takeShownBytes();
    }
    crashPoint("files: commits shown");
    await this.#insist("the standby's trees", () => files.showRemovals({ complete: true }));
    const newestCommit = events.findLast((event) => event.body.kind === "sqlite.commit");
    if (files.trees.length > 0) this.treeScrub.wake();
    if (files.takeMissed()) this.treeScrub.doubt();
    this.#progress.shown(this.set.taken, this.set.takenTimeMs, newestCommit);
    this.#answer(events.at(-1)?.body);
    if (this.#following) return;
    this.#following = true;
    // It can be promoted from here on, and a stranger's lock could keep it from recording where it is.
    if (!this.#context.state.position && !this.#unsettled) await this.#record();
    this.#context.onCaughtUp();
  }

  /** What the writer says to its standbys, once it is shown. */
  #answer(newest: LogEvent["body"] | undefined): void {
    const { registration, onOffered } = this.#context;
    if (this.#asked) registration.saySoon();
    this.#asked = false;
    if (newest?.kind === "heartbeat" && newest.successor === registration.id) onOffered?.();
  }

  /** No room on the disk, or a stranger's lock: nothing of it is visible, and it is tried again. */
  async #insist(where: string, act: () => Promise<void>): Promise<void> {
    const { logger } = this.#context;
    const attempt = async (): Promise<void> => {
      try {
        await act();
      } catch (error) {
        throw toTidemarkError(damageOf(error, where));
      }
    };
    const onRetry = (error: TidemarkError, delayMs: number): void => {
      this.#progress.problem = error;
      logger.warn({ code: error.code, hint: error.hint, delayMs }, error.message);
    };
    await retry(attempt, { signal: this.#signal, onRetry, useful: () => !this.set.torn });
    this.#progress.problem = undefined;
  }

  async #keepHouse(): Promise<void> {
    if (this.#unsettled) return;
    const dueMs = this.#recordedAtMs + RECORD_MS;
    const due = this.#context.clock.monotonic() >= dueMs || this.#unrecordedBytes >= RECORD_BYTES;
    const { images } = this.#context;
    const wanted = images.any && !this.set.unfinished;
    if (this.set.dirty && (due || wanted)) await this.#record();
    if (wanted) this.#serveImages();
    this.checkpointer.run(this.set.databases);
    await this.scrub.step(this.set.databases);
    await this.treeScrub.step(this.set.files);
  }

  #serveImages(): void {
    const { images, state } = this.#context;
    const { position } = state;
    if (position && position.offset === this.set.taken) {
      images.serve((known) => new StandbyImage(this.set, position, known));
    }
  }

  async #record(): Promise<void> {
    for (const database of this.set.databases) if (database.dirty) database.writer?.requireUntouched();
    if (this.set.dirty) await this.set.record((at) => this.#hashAt(at));
    const { state, registration } = this.#context;
    if (state.position) registration.at(state.position.offset);
    for (const at of this.#hashes.keys()) if (at < this.set.taken) this.#hashes.delete(at);
    this.#recordedAtMs = this.#context.clock.monotonic();
    this.#unrecordedBytes = 0;
  }

  /** Undefined when the log is away just now: the next start then cannot compare, but can go on. */
  async #hashAt(at: Offset): Promise<Uint8Array | undefined> {
    const known = this.#hashes.get(at);
    if (known) return known;
    try {
      return await hashAt(this.#context.log, at, new AbortController().signal);
    } catch (error) {
      this.#context.logger.debug({ error: errnoOf(error) ?? String(error) }, "no hash for the recorded position");
      return undefined;
    }
  }
}
