import os from "node:os";

import type { Logger } from "pino";

import type { Config, DatabaseConfig } from "../config/config.ts";
import { pagesPerRecord } from "../event/codec.ts";
import type { Offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { OwnKey } from "../keys/data-key.ts";
import { LogWriter } from "../log/log-writer.ts";
import { sleep, type Clock } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import type { TidemarkError } from "../runtime/errors.ts";
import { toTidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import type { CaptureAgent, CaptureStatus } from "./capture-agent.ts";
import { CaptureFeed, feedStatus } from "./capture-feed.ts";
import { CaptureKeys } from "./capture-keys.ts";
import { CaptureSet } from "./capture-set.ts";
import { CaptureState } from "./capture-state.ts";
import { Marks } from "./marks.ts";
import { Checkpointer } from "./sqlite/checkpointer.ts";
import type { FileSide } from "./files/file-side.ts";
import { openFileSide } from "./files/open-file-side.ts";
import type { WatchBackend } from "./files/watch-backend.ts";
import { ShipQueue } from "./ship-queue.ts";
import { DatabaseCapture } from "./sqlite/database-capture.ts";
import { PinBudget } from "./sqlite/pin-budget.ts";
import { requireSafeSqlite } from "./sqlite/preflight.ts";
import { RestingRounds } from "./sqlite/resting-rounds.ts";
import { ScrubTurn } from "./sqlite/scrub-turn.ts";
import { StoredIndexes } from "./stored-indexes.ts";

/** A stop waits this long for the log; what it could not take is repaired by difference at the next start. */
const STOP_FLUSH_MS = 15_000;

export interface StartCaptureOptions {
  readonly config: Config;
  readonly log: ChangeLog;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Abort: capture what is committed, acknowledge it, end. */
  readonly signal: AbortSignal;
  /** Take the log over from another writer that may still be alive. */
  readonly takeover?: boolean;
  /** Files that are gone at the start, and be it all of a tree, are meant to be gone. */
  readonly acceptEmpty?: boolean;
  /** How trees are watched; inotify when left out. */
  readonly backend?: WatchBackend;
}

/** Opens state and log and starts capturing every database of the set. */
export async function startCapture(options: StartCaptureOptions): Promise<CaptureAgent> {
  requireSafeSqlite();
  const state = new CaptureState(options.config.state, options.config.set);
  crashPoint("capture: state made");
  try {
    const agent = new Agent(options, state);
    await agent.start();
    return agent;
  } catch (error) {
    state[Symbol.dispose]();
    throw error;
  }
}

class Agent implements CaptureAgent {
  readonly ready: Promise<void>;
  readonly done: Promise<void>;
  readonly #options: StartCaptureOptions;
  readonly #state: CaptureState;
  /** UUID of the state: kept, because the status is asked for after the state is closed, too. */
  readonly #writerId: string;
  readonly #scrubTurn = new ScrubTurn();
  readonly #marks: Marks;
  readonly #ready = Promise.withResolvers<void>();
  readonly #done = Promise.withResolvers<void>();
  /** Aborts everything: on the user's stop, or when one part failed for good. */
  readonly #stop = new AbortController();
  /** Aborts the writer, after the databases have ended. */
  readonly #abandon = new AbortController();
  #feed: CaptureFeed | undefined;
  #set: CaptureSet | undefined;
  #indexes: StoredIndexes | undefined;
  #keys: CaptureKeys | undefined;
  /** When the set has file trees. */
  #files: FileSide | undefined;
  #failure: TidemarkError | undefined;

  constructor(options: StartCaptureOptions, state: CaptureState) {
    this.#options = options;
    this.#state = state;
    this.#writerId = state.writer;
    this.#marks = new Marks({ state, log: options.log, clock: options.clock, signal: this.#abandon.signal });
    this.ready = this.#ready.promise;
    this.done = this.#done.promise;
    this.ready.catch(() => undefined);
    this.done.catch(() => undefined);
  }

  /** Opens the log, brings the indexes up to its head, sets everything going. */
  async start(): Promise<void> {
    const { config, signal, clock, logger, log } = this.#options;
    const captured = this.#state.captured();
    const members = CaptureSet.membersAtStart({ config, captured });
    const keys = new CaptureKeys({ directory: config.state, recipients: config.encryption.recipients, logger });
    this.#keys = keys;
    const writer = await this.#openWriter(await keys.open());
    crashPoint("capture: log opened");
    const onFailure = (error: unknown): void => this.#fail(toTidemarkError(error));
    const { heartbeatMs } = config.capture;
    const queue = config.trees.length > 0 ? new ShipQueue(clock) : undefined;
    const feed = new CaptureFeed({ writer, writerId: this.#writerId, clock, heartbeatMs, queue, onFailure });
    this.#feed = feed;
    const indexes = await StoredIndexes.recover({
      state: this.#state,
      log,
      writer,
      logger,
      signal: this.#abandon.signal,
    });
    this.#indexes = indexes;
    const parts: AgentParts = {
      feed,
      indexes,
      checkpointer: new Checkpointer(),
      budget: new PinBudget(config.capture.maxPinned),
      rounds: new RestingRounds(),
    };
    const makeCapture = (database: DatabaseConfig): DatabaseCapture => this.#captureOf(database, parts);
    const stop = this.#stop.signal;
    this.#set = new CaptureSet({ config, logger, clock, captured, makeCapture, onFailure, stop });
    this.#set.prepare(members);
    if (queue) this.#files = await this.#openFileSide(feed, queue);
    // The log's tail was read back, and all that it holds is stored.
    keys.forgetUnused(log.keys?.used);
    if (signal.aborted) this.#stop.abort();
    else signal.addEventListener("abort", () => this.#stop.abort(), { once: true });
    this.#run(this.#set, parts).then(this.#done.resolve, this.#done.reject);
  }

  status(): CaptureStatus {
    return {
      set: this.#options.config.set,
      writer: this.#writerId,
      ...feedStatus(this.#feed),
      databases: (this.#set?.captures ?? []).map((database) => database.status()),
      overtaken: this.#files?.overtaken.total ?? 0,
      files: this.#files?.status() ?? [],
      warnings: [...(this.#set?.warnings ?? []), ...this.#overtaken(), ...this.#stateProblem()],
    };
  }

  #overtaken(): string[] {
    const warning = this.#files?.overtaken.warning;
    return warning === undefined ? [] : [warning];
  }

  #stateProblem(): string[] {
    const problem = this.#indexes?.problem;
    return problem === undefined
      ? []
      : [`the agent's state in ${this.#options.config.state} cannot be stored: ${problem}`];
  }

  async mark(name: string): Promise<{ offset: Offset; atMs: number }> {
    return this.#marks.make(name, this.#openedFeed(), async () => this.#syncAll());
  }

  async rotateKey(): Promise<{ key: string; offset: Offset }> {
    const { writer } = this.#openedFeed();
    invariant(this.#keys, "the log is opened at the start");
    const key = await this.#keys.rotate();
    return { key: key.key.id, offset: await writer.changeKey(key) };
  }

  async sync(): Promise<Offset> {
    await this.#syncAll();
    return this.#openedFeed().flush();
  }

  async askStandbys(): Promise<Offset> {
    return this.#openedFeed().beatOnce({ asks: "position" }).acknowledged;
  }

  async #syncAll(): Promise<void> {
    await this.#syncDatabases();
    await this.#files?.sync();
  }

  async #syncDatabases(): Promise<void> {
    await Promise.all((this.#set?.captures ?? []).map(async (database) => database.sync()));
  }

  #openedFeed(): CaptureFeed {
    if (this.#failure) throw this.#failure;
    invariant(this.#feed, "the log is opened at the start");
    return this.#feed;
  }

  async #openWriter(key: OwnKey | undefined): Promise<LogWriter> {
    const { config, log, clock, signal, takeover = false } = this.#options;
    const giveUp = (): void => this.#abandon.abort();
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      return await LogWriter.open({
        log,
        set: config.set,
        identity: { writer: this.#writerId, host: os.hostname() },
        known: this.#state.known,
        clock,
        signal: this.#abandon.signal,
        foreignWriterGraceMs: 3 * config.capture.heartbeatMs,
        takeover,
        key,
      });
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  async #openFileSide(feed: CaptureFeed, queue: ShipQueue): Promise<FileSide> {
    return openFileSide({
      ...this.#options,
      feed,
      queue,
      databases: () => (this.#set?.captures ?? []).map(({ path }) => path),
      syncDatabases: async () => this.#syncDatabases(),
      stop: this.#stop.signal,
      abandon: this.#abandon.signal,
    });
  }

  #captureOf(database: DatabaseConfig, { feed, indexes, ...shared }: AgentParts): DatabaseCapture {
    const { config, logger, clock } = this.#options;
    const { writer } = feed;
    const { name } = database;
    const shipped = indexes.take(name);
    return new DatabaseCapture({
      ...shared,
      database,
      config: config.capture,
      shipped,
      shippedAtMs: shipped ? indexes.heldAllUntilMs(name) : 0,
      mayWait: database.byPattern === true || database.awaited === true || indexes.captured.has(name),
      shipper: {
        seed: writer.checksumSeed,
        send: (body) => {
          indexes.outdated(name);
          feed.ship(body);
        },
        pagesPerRecord,
        nextOffset: () => feed.nextNumber(),
      },
      room: async () => feed.room(),
      keepsUp: () => feed.keepsUp(),
      hasSlack: () => feed.hasSlack(),
      slack: async () => feed.slack(),
      acknowledged: () => writer.acknowledged.offset,
      save: async (shippedNow, patienceMs) =>
        (await feed.flushedWithin(patienceMs)) && !this.#failure && indexes.save(database, shippedNow),
      forgetFile: () => indexes.forgetFile(name),
      scrub: {
        turn: this.#scrubTurn,
        record: this.#state.scrubOf(name),
        save: (record) => indexes.saveScrub(name, record),
      },
      logger,
      clock,
      stop: this.#stop.signal,
    });
  }

  #fail(error: TidemarkError): void {
    this.#failure ??= error;
    this.#stop.abort();
  }

  async #run(set: CaptureSet, { feed, indexes, checkpointer, rounds }: AgentParts): Promise<void> {
    const { signal } = this.#stop;
    const files = this.#files;
    Promise.all([set.ready, files?.ready]).then(() => this.#ready.resolve(), this.#ready.reject);
    signal.addEventListener("abort", () => void this.#limitStop(), { once: true });
    const onBeat = (): void => {
      indexes.raiseIfDue();
      files?.beat();
    };
    const databases = set.run().finally(() => files?.finish());
    const parts = [databases, rounds.run(signal), feed.beat(signal, onBeat), ...(files ? [files.run()] : [])];
    await Promise.all(parts.map(async (part) => part.catch((error: unknown) => this.#fail(toTidemarkError(error)))));
    try {
      if (!this.#failure) files?.store(await feed.flush());
    } catch (error) {
      this.#failure ??= toTidemarkError(error);
    } finally {
      this.#abandon.abort();
      await files?.[Symbol.asyncDispose]();
      this.#state[Symbol.dispose]();
      await checkpointer[Symbol.asyncDispose]();
    }
    if (this.#failure) throw this.#failure;
  }

  /** A stop does not wait for ever for a log that is away. */
  async #limitStop(): Promise<void> {
    await sleep(STOP_FLUSH_MS, this.#abandon.signal);
    this.#abandon.abort();
  }
}

interface AgentParts {
  readonly feed: CaptureFeed;
  readonly indexes: StoredIndexes;
  readonly checkpointer: Checkpointer;
  readonly budget: PinBudget;
  readonly rounds: RestingRounds;
}
