import fs from "node:fs";
import os from "node:os";

import type { Logger } from "pino";

import type { Config, DatabaseConfig } from "../config/config.ts";
import { pagesPerRecord } from "../event/codec.ts";
import type { Offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { LogWriter } from "../log/log-writer.ts";
import { sleep, type Clock } from "../runtime/clock.ts";
import { TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import type { CaptureAgent, CaptureStatus } from "./capture-agent.ts";
import { CaptureFeed, feedStatus } from "./capture-feed.ts";
import { CaptureState, type StoredCapture } from "./capture-state.ts";
import { recoverIndexes } from "./recover.ts";
import { Checkpointer } from "./sqlite/checkpointer.ts";
import { DatabaseCapture } from "./sqlite/database-capture.ts";
import { requireSafeSqlite } from "./sqlite/preflight.ts";
import type { ShippedState } from "./sqlite/shipper.ts";

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
}

/** Opens state and log and starts capturing every database of the set. */
export async function startCapture(options: StartCaptureOptions): Promise<CaptureAgent> {
  requireSafeSqlite();
  const state = new CaptureState(options.config.state, options.config.set);
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
  readonly #databases: DatabaseCapture[] = [];
  readonly #ready = Promise.withResolvers<void>();
  readonly #done = Promise.withResolvers<void>();
  /** Aborts everything: on the user's stop, or when one part failed for good. */
  readonly #stop = new AbortController();
  /** Aborts the writer, after the databases have ended. */
  readonly #abandon = new AbortController();
  #feed: CaptureFeed | undefined;
  #failure: TidemarkError | undefined;

  constructor(options: StartCaptureOptions, state: CaptureState) {
    this.#options = options;
    this.#state = state;
    this.#writerId = state.writer;
    this.ready = this.#ready.promise;
    this.done = this.#done.promise;
    this.ready.catch(() => undefined);
    this.done.catch(() => undefined);
  }

  /** Opens the log, brings the indexes up to its head, sets everything going. */
  async start(): Promise<void> {
    const { config, signal, clock } = this.#options;
    const writer = await this.#openWriter();
    const onFailure = (error: TidemarkError): void => this.#fail(error);
    const { heartbeatMs } = config.capture;
    const feed = new CaptureFeed({ writer, writerId: this.#writerId, clock, heartbeatMs, onFailure });
    this.#feed = feed;
    const { acknowledged, logId } = writer;
    this.#state.saveKnown({ logId, offset: acknowledged.offset, hash: acknowledged.hash });
    const recovered = await this.#recover(writer);
    const checkpointer = new Checkpointer();
    for (const database of config.databases) {
      const shipped = recovered.get(database.name);
      this.#databases.push(this.#captureOf(database, { feed, checkpointer, shipped }));
    }
    if (signal.aborted) this.#stop.abort();
    else signal.addEventListener("abort", () => this.#stop.abort(), { once: true });
    this.#run(checkpointer, feed).then(this.#done.resolve, this.#done.reject);
  }

  status(): CaptureStatus {
    return {
      set: this.#options.config.set,
      writer: this.#writerId,
      ...feedStatus(this.#feed),
      databases: this.#databases.map((database) => database.status()),
    };
  }

  async mark(name: string): Promise<{ offset: Offset; atMs: number }> {
    const feed = this.#openedFeed();
    if (this.#state.hasMark(name)) {
      throw new TidemarkError("MARK_EXISTS", `there is a mark ${name} already`, {
        hint: "Marks are never moved. Choose another name; `tidemark marks` lists them.",
      });
    }
    const atMs = this.#options.clock.now();
    // What was committed before the call belongs before the mark.
    await Promise.all(this.#databases.map((database) => database.sync()));
    const { offsets, acknowledged } = feed.send([{ kind: "mark", name }]);
    await acknowledged;
    const [offset] = offsets;
    invariant(offset !== undefined, "a mark has an offset");
    this.#state.addMark(name, offset);
    return { offset, atMs: Math.max(atMs, feed.writer.acknowledged.timeMs) };
  }

  async sync(): Promise<Offset> {
    await Promise.all(this.#databases.map((database) => database.sync()));
    return this.#openedFeed().flush();
  }

  #openedFeed(): CaptureFeed {
    if (this.#failure) throw this.#failure;
    invariant(this.#feed, "the log is opened at the start");
    return this.#feed;
  }

  async #openWriter(): Promise<LogWriter> {
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
      });
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  async #recover(writer: LogWriter): Promise<Map<string, ShippedState>> {
    const stored = new Map<string, StoredCapture>();
    for (const { name, path } of this.#options.config.databases) {
      const one = this.#state.load(name, writer.checksumSeed);
      if (!one) continue;
      requireSameDatabase(name, { stored: one.path, configured: path, directory: this.#state.directory });
      stored.set(name, one);
    }
    const { log } = this.#options;
    const head = writer.acknowledged.offset;
    return recoverIndexes({ log, stored, head, signal: this.#abandon.signal });
  }

  #captureOf(
    database: DatabaseConfig,
    parts: { feed: CaptureFeed; checkpointer: Checkpointer; shipped: ShippedState | undefined },
  ): DatabaseCapture {
    const { config, logger, clock } = this.#options;
    const { feed, checkpointer, shipped } = parts;
    const { writer } = feed;
    return new DatabaseCapture({
      database,
      config: config.capture,
      shipped,
      shippedAtMs: shipped ? writer.acknowledged.timeMs : 0,
      shipper: {
        seed: writer.checksumSeed,
        send: (body) => void feed.send([body]),
        pagesPerRecord,
        nextOffset: () => writer.head + 1,
      },
      room: async () => feed.room(),
      keepsUp: () => feed.keepsUp(),
      hasSlack: () => feed.hasSlack(),
      acknowledged: () => writer.acknowledged.offset,
      save: async (shippedNow, patienceMs) =>
        (await feed.flushedWithin(patienceMs)) && this.#save(database, shippedNow),
      checkpointer,
      logger,
      clock,
      stop: this.#stop.signal,
    });
  }

  #fail(error: TidemarkError): void {
    this.#failure ??= error;
    this.#stop.abort();
  }

  /** Stores the index as it is now, all of which the log has acknowledged. */
  #save(database: DatabaseConfig, shipped: ShippedState): true {
    const { writer } = this.#openedFeed();
    const { offset, hash } = writer.acknowledged;
    this.#state.save(database.name, database.path, { shipped, known: { logId: writer.logId, offset, hash } });
    return true;
  }

  async #run(checkpointer: Checkpointer, feed: CaptureFeed): Promise<void> {
    const heart = feed.beat(this.#stop.signal);
    Promise.all(this.#databases.map(async ({ ready }) => ready.promise)).then(
      () => this.#ready.resolve(),
      this.#ready.reject,
    );
    const runs = this.#databases.map(async (database) => {
      try {
        await database.run();
      } catch (error) {
        this.#fail(toTidemarkError(error));
      }
    });
    this.#stop.signal.addEventListener("abort", () => void this.#limitStop(), { once: true });
    await Promise.all([...runs, heart]);
    try {
      if (!this.#failure) await feed.flush();
    } catch (error) {
      this.#failure ??= toTidemarkError(error);
    } finally {
      this.#abandon.abort();
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

/** A state directory that belongs to another database of the same name would ship one app over another's history. */
function requireSameDatabase(name: string, paths: { stored: string; configured: string; directory: string }): void {
  if (paths.stored === paths.configured || !fs.existsSync(paths.stored)) return;
  throw new TidemarkError(
    "STATE_FOREIGN",
    `${paths.directory} holds the state of ${paths.stored} under the name ${name}, not of ${paths.configured}`,
    { hint: "Give this database another name (--db PATH=NAME), or its set a state directory of its own (--state)." },
  );
}
