import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import { SqlSession } from "../apps/sql-session.ts";
import { Deployment } from "../deployment.ts";
import { identityOf, keepIdentity } from "../power-cut/file-identity.ts";
import { DiskRecording } from "../power-cut/recording.ts";
import type { Random } from "../random.ts";
import { type RunningTidemark, startTidemark } from "../tidemark-cli.ts";

const CONNECTIONS = 3;
/** A power cut takes back at most so many effects that were over when it was decided. */
const LATEST_EFFECTS = 400;

type Death = "app" | "agent" | "machine";

/**
 * An application with several connections, each a process, that does what comes to mind, and Tidemark beside it; now and
 * then an application, an agent or the whole machine dies. After each death standby and primary are equal page by page.
 */
export class RandomLife implements AsyncDisposable {
  readonly deaths: Record<Death, number> = { app: 0, agent: 0, machine: 0 };
  steps = 0;
  readonly #random: Random;
  readonly #deployment: Deployment;
  /** As two agents, or `run`. */
  readonly #roles: readonly string[];
  #recording: DiskRecording;
  #sessions: SqlSession[] = [];
  #agents = new Map<string, RunningTidemark>();

  /** No power cut before it: there is no database yet, and nothing to begin with. */
  #firstEffect = 0;

  constructor(random: Random) {
    this.#random = random;
    const granularity = random.pick(["adaptive", "commit"]);
    const seal = random.pick(["128KiB", "1MiB", "64MiB"]);
    const config = `granularity: ${granularity}\nwal: { seal: ${seal} }`;
    this.#deployment = new Deployment({ config });
    this.#recording = new DiskRecording(this.#deployment.directory);
    this.#roles = random.pick([["run"], ["capture", "replica"]]);
    process.stdout.write(`${this.#roles.join(" and ")}, ${config.replace("\n", ", ")}\n`);
  }

  async begin(): Promise<void> {
    const pageSize = this.#random.pick([512, 1024, 4096, 4096]);
    const vacuum = this.#random.pick(["NONE", "INCREMENTAL"]);
    const first = this.#connect();
    await first.run(`PRAGMA page_size=${pageSize}`);
    await first.run(`PRAGMA auto_vacuum=${vacuum}`);
    await first.run("PRAGMA journal_mode=WAL");
    await first.run("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, body BLOB)");
    await this.#configure(first);
    this.#firstEffect = this.#recording.effects().length;
    while (this.#sessions.length < CONNECTIONS) await this.#configure(this.#connect());
    for (const role of this.#roles) await this.#start(role);
  }

  /** Works for so many steps, and dies. */
  async round(steps: number): Promise<void> {
    for (let step = 0; step < steps; step += 1) await this.#step();
    const death = this.#random.pick<Death>(["app", "agent", "machine"]);
    const working = this.#workUntilDeath();
    await sleep(this.#random.integer(0, 40));
    this.deaths[death] += 1;
    if (death === "app") await this.#killApp();
    else if (death === "agent") await this.#killAgent();
    else await this.#cutPower();
    await working;
    await this.#isEqual(death);
  }

  /** Offsets drawn by lot can be restored, and the last one is what the primary holds. */
  async finish(): Promise<void> {
    const events = await this.#deployment.events();
    const first = events.find(({ body }) => body.kind === "sqlite.commit")?.offset ?? 0;
    for (let times = 0; times < 2; times += 1) {
      await this.#deployment.restore(String(this.#random.integer(first, events.length)));
    }
    for (const agent of this.#agents.values()) assert.equal((await agent.stop()).code, 0);
  }

  #connect(): SqlSession {
    const session = new SqlSession(this.#deployment.database, { env: this.#recording.env });
    this.#sessions.push(session);
    return session;
  }

  /** A small cache spills frames of open transactions into the WAL. */
  async #configure(session: SqlSession): Promise<void> {
    const random = this.#random;
    await session.run(`PRAGMA cache_size=${random.pick([5, 10, 2000])}`);
    await session.run(`PRAGMA wal_autocheckpoint=${random.pick([1, 20, 1000])}`);
    await session.run(`PRAGMA synchronous=${random.pick(["NORMAL", "FULL"])}`);
  }

  async #start(role: string): Promise<void> {
    const args = [role, "-c", this.#deployment.configFile, "--json"];
    const agent = startTidemark(args, { env: this.#recording.env });
    this.#agents.set(role, agent);
    await agent.waitReady(30_000);
  }

  /** What SQLite refuses because another connection is in the way is left undone. */
  async #step(): Promise<void> {
    this.steps += 1;
    const session = this.#sessions[this.#random.integer(0, this.#sessions.length - 1)];
    try {
      await session?.run(this.#statement());
    } catch (error) {
      if (!/locked|busy|no such table|already exists|SIGKILL/i.test(String(error))) throw error;
      await session?.run("ROLLBACK").catch(() => undefined);
    }
  }

  #statement(): string {
    const random = this.#random;
    const rows = random.integer(1, 40);
    const bytes = random.pick([10, 500, 5000]);
    const from = random.integer(1, 200);
    const some = `WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ${rows})`;
    const insert = `${some} INSERT INTO t (n, body) SELECT i, randomblob(${bytes}) FROM c`;
    const update = `UPDATE t SET n = n + 1, body = randomblob(${bytes}) WHERE id BETWEEN ${from} AND ${from + rows}`;
    const remove = `DELETE FROM t WHERE id BETWEEN ${from} AND ${from + rows * 5}`;
    const table = `extra_${random.integer(1, 4)}`;
    return random.pick([
      insert,
      insert,
      update,
      update,
      remove,
      `BEGIN IMMEDIATE; ${insert}; ${update}; ${remove}; COMMIT`,
      `BEGIN IMMEDIATE; ${insert}; SAVEPOINT s; ${insert}; ${update}; ROLLBACK TO s; ${update}; COMMIT`,
      `BEGIN IMMEDIATE; ${insert}; ${remove}; ROLLBACK`,
      `CREATE TABLE ${table} AS SELECT * FROM t`,
      `CREATE INDEX IF NOT EXISTS t_by_n ON t (n)`,
      "DROP INDEX IF EXISTS t_by_n",
      `DROP TABLE IF EXISTS ${table}`,
      `ALTER TABLE ${table} ADD COLUMN c${random.integer(1, 1_000_000)} DEFAULT 7`,
      "VACUUM",
      `PRAGMA incremental_vacuum(${rows})`,
      "PRAGMA wal_checkpoint(PASSIVE)",
      "PRAGMA wal_checkpoint(FULL)",
      "PRAGMA wal_checkpoint(RESTART)",
      "PRAGMA wal_checkpoint(TRUNCATE)",
    ]);
  }

  /** Every connection is in the middle of something. What becomes of it is not asked for; who survives a failure goes on. */
  async #workUntilDeath(): Promise<void> {
    const work = async (session: SqlSession): Promise<void> => {
      await session.run(this.#statement()).catch(async () => session.run("ROLLBACK"));
    };
    await Promise.allSettled(this.#sessions.map(work));
  }

  async #killApp(): Promise<void> {
    const [victim] = this.#sessions.splice(this.#random.integer(0, this.#sessions.length - 1), 1);
    this.#recording.kill(victim?.program.child.pid);
    await victim?.program.exited;
    await this.#configure(this.#connect());
  }

  async #killAgent(): Promise<void> {
    const role = this.#roles[this.#random.integer(0, this.#roles.length - 1)] ?? "run";
    const agent = this.#agents.get(role);
    this.#recording.kill(agent?.child.pid);
    await agent?.exited;
    // The application goes on meanwhile.
    for (let steps = this.#random.integer(0, 5); steps > 0; steps -= 1) await this.#step();
    await this.#start(role);
  }

  async #cutPower(): Promise<void> {
    const recording = this.#recording;
    const pids = [
      ...this.#sessions.map(({ program }) => program.child),
      ...[...this.#agents.values()].map((a) => a.child),
    ];
    for (const { pid } of pids) recording.kill(pid);
    for (const session of this.#sessions) await session.program.exited;
    for (const agent of this.#agents.values()) await agent.exited;
    assert.deepEqual(recording.differences(), []);
    const identity = identityOf(this.#deployment.database);
    const effects = recording.effects();
    const moment = this.#random.integer(Math.max(this.#firstEffect, effects.length - LATEST_EFFECTS), effects.length);
    recording.cutPower(effects.slice(0, moment), this.#random);
    recording[Symbol.dispose]();
    keepIdentity(this.#deployment, identity);
    this.#recording = new DiskRecording(this.#deployment.directory);
    this.#firstEffect = 0;
    this.#sessions = [];
    if (this.#random.next() < 0.5) await this.#reconnect();
    for (const role of this.#roles) await this.#start(role);
    await this.#reconnect();
  }

  async #reconnect(): Promise<void> {
    while (this.#sessions.length < CONNECTIONS) await this.#configure(this.#connect());
  }

  async #isEqual(after: Death): Promise<void> {
    assert.equal(await this.#deployment.difference(), undefined, `after the death of the ${after}`);
    const [session] = this.#sessions;
    assert.equal(await session?.value("PRAGMA integrity_check"), "ok", "SQLite's own recovery failed");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions) await session[Symbol.asyncDispose]();
    for (const agent of this.#agents.values()) await agent[Symbol.asyncDispose]();
    await this.#deployment[Symbol.asyncDispose]();
    this.#recording[Symbol.dispose]();
  }
}
