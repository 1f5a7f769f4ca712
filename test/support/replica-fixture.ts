import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { pino } from "pino";

import type { Offset } from "../../src/event/positions.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import type { ReplicaAgent } from "../../src/replica/replica-agent.ts";
import { startReplica, type StartReplicaOptions } from "../../src/replica/start-replica.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { TidemarkError } from "../../src/runtime/errors.ts";
import { ImagedDatabase } from "./database-images.ts";
import { PageDiffLog } from "./page-diff-log.ts";
import { REPLICA_CONFIG } from "./replica-config.ts";

/** A log, primaries and a standby in a temporary directory, and replicas in this process. */
export class ReplicaFixture implements AsyncDisposable {
  readonly directory: string;
  readonly standby: string;
  log: PageDiffLog;
  #stop = new AbortController();
  #agent: ReplicaAgent | undefined;
  readonly #sources: ImagedDatabase[] = [];

  private constructor(directory: string, log: PageDiffLog) {
    this.directory = directory;
    this.standby = path.join(directory, "standby");
    this.log = log;
  }

  /** `log`: instead of an embedded one; closed with the fixture. */
  static async open(log?: ChangeLog): Promise<ReplicaFixture> {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-replica-"));
    fs.chmodSync(directory, 0o755);
    const fed = log ? PageDiffLog.over(log) : PageDiffLog.open(path.join(directory, "log"));
    return new ReplicaFixture(directory, await fed);
  }

  /** A primary with `CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)`. */
  source(name: string, pageSize = 4096): ImagedDatabase {
    const file = path.join(this.directory, "primary", `${this.#sources.length}`, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    const database = new ImagedDatabase(file, pageSize);
    database.connection.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body BLOB)");
    this.#sources.push(database);
    return database;
  }

  file(name: string): string {
    return path.join(this.standby, name);
  }

  async start(options: Partial<StartReplicaOptions> = {}): Promise<ReplicaAgent> {
    const stop = new AbortController();
    const agent = await startReplica({
      set: "app",
      directory: this.standby,
      config: REPLICA_CONFIG,
      log: this.log.log,
      logger: pino({ enabled: false }),
      clock: systemClock,
      signal: stop.signal,
      ...options,
    });
    this.#stop = stop;
    this.#agent = agent;
    return agent;
  }

  async ready(options: Partial<StartReplicaOptions> = {}): Promise<ReplicaAgent> {
    const agent = await this.start(options);
    await agent.ready;
    return agent;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#agent?.done;
    this.#agent = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#agent?.done.catch(() => undefined);
    for (const source of this.#sources) source.close();
    await this.log[Symbol.asyncDispose]();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

export function applied(agent: ReplicaAgent, at: Offset): Promise<void> {
  return agent.waitApplied(at, AbortSignal.timeout(30_000));
}

/** What another process reads, through the sqlite3 program. */
export function query(file: string, sql: string): string {
  return execFileSync("sqlite3", ["-readonly", file, sql], { encoding: "utf8" }).trim();
}

/** The error that `promise` rejects with. */
export async function failure(promise: Promise<unknown>): Promise<TidemarkError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof TidemarkError) return error;
  throw new Error("expected a TidemarkError", { cause: error });
}
