import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { askAgent } from "../../../src/observe/control-client.ts";
import type { CrashPoint } from "../../../src/runtime/crash-point.ts";
import { SqlSession } from "../apps/sql-session.ts";
import { comparePages } from "../compare.ts";
import { Deployment, type DeploymentOptions } from "../deployment.ts";
import { type RunningTidemark, startTidemark } from "../tidemark-cli.ts";
import { within } from "../wait.ts";

const HOOK = fileURLToPath(new URL("crash-hook.ts", import.meta.url));
/** At first, and of so many bytes. */
export const ROWS = 250;
const ROW_BYTES = 20_000;
const DEATH_TIMEOUT_MS = 30_000;

/** An application and `run`, the real one, which dies at the crash points that a test names. */
export class CrashScene implements AsyncDisposable {
  readonly deployment: Deployment;
  readonly #directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-crash-"));
  readonly #orders = path.join(this.#directory, "order");
  /** For the environment of whatever is to die. */
  readonly env = { NODE_OPTIONS: `--import=${HOOK}`, TIDEMARK_TEST_CRASH: this.#orders };
  agent: RunningTidemark | undefined;
  readonly #app: SqlSession;
  #rows = 0;

  constructor(options: DeploymentOptions = {}) {
    this.deployment = new Deployment(options);
    this.#app = new SqlSession(this.deployment.database);
  }

  /** Some megabytes: a copy has parts. */
  async createDatabase(): Promise<void> {
    await this.#app.run("PRAGMA journal_mode=WAL");
    await this.#app.run("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
    await this.insert(ROWS, ROW_BYTES);
  }

  get app(): SqlSession {
    return this.#app;
  }

  async insert(rows: number, bytes: number): Promise<void> {
    const count = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})`;
    await this.#app.run(`${count} INSERT INTO t (body) SELECT randomblob(${bytes}) FROM n`);
    this.#rows += rows;
  }

  /** Other bytes in so many rows, in one transaction. */
  async update(rows: number): Promise<void> {
    await this.#app.run(`UPDATE t SET body = randomblob(${ROW_BYTES}) WHERE id <= ${rows}`);
  }

  /** From now on the agent dies as it passes the point for the `nth` time. */
  order(point: CrashPoint, nth = 1): void {
    fs.rmSync(`${this.#orders}.died`, { force: true });
    fs.writeFileSync(this.#orders, `${nth} ${point}`);
  }

  launch(...command: string[]): RunningTidemark {
    const words = command.length > 0 ? command : ["run"];
    this.agent = startTidemark([...words, "-c", this.deployment.configFile, "--json"], { env: this.env });
    return this.agent;
  }

  /**
   * `drive` is called until the agent has died of the order. At a pace, unless it must not: with changes as fast as they can
   * be made both processors are mostly busy with what nobody looks at.
   */
  async diesOf(point: CrashPoint, drive: () => Promise<unknown>, paceMs = 20): Promise<void> {
    const { agent } = this;
    assert.ok(agent, "nothing runs");
    let dead = false;
    const death = agent.exited.then(() => (dead = true));
    const driving = async (): Promise<void> => {
      while (!dead) await Promise.race([drive().then(async () => sleep(paceMs)), death]);
    };
    await within(`the agent comes to "${point}"`, DEATH_TIMEOUT_MS, driving());
    this.agent = undefined;
    const { code, stderr } = await agent.exited;
    const diedOf = fs.existsSync(`${this.#orders}.died`) ? fs.readFileSync(`${this.#orders}.died`, "utf8") : undefined;
    assert.deepEqual([code, diedOf], [137, point], stderr);
    fs.rmSync(this.#orders);
  }

  /** Starts the agent if it is dead. */
  async runs(): Promise<void> {
    if (!this.agent) await this.launch().waitReady(30_000);
  }

  async stop(): Promise<void> {
    assert.equal((await this.agent?.stop())?.code, 0);
    this.agent = undefined;
  }

  async kill(): Promise<void> {
    await this.agent?.kill9();
    this.agent = undefined;
  }

  /** Starts the agent if it is dead, and requires that it goes on by itself and that standby and primary are equal. */
  async goesOn(): Promise<void> {
    await this.runs();
    await this.sync();
    const { deployment } = this;
    assert.equal(comparePages(deployment.database, deployment.standbyDatabase), undefined);
    assert.equal(await this.#app.value("SELECT count(*) FROM t"), this.#rows);
  }

  async sync(): Promise<void> {
    const request = { method: "POST", path: "/sync", body: { applied: true }, timeoutMs: 30_000 } as const;
    await askAgent(this.deployment.state, request);
  }

  /** @throws MARK_EXISTS; when the agent dies of it */
  async mark(name: string): Promise<void> {
    const body = { name };
    await askAgent(this.deployment.state, { method: "POST", path: "/mark", body, timeoutMs: 10_000 });
  }

  /** The application is closed; its connection is opened anew when it is needed. */
  async closeApp(): Promise<void> {
    await this.#app.disconnect();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent?.[Symbol.asyncDispose]();
    await this.#app[Symbol.asyncDispose]();
    await this.deployment[Symbol.asyncDispose]();
    fs.rmSync(this.#directory, { recursive: true, force: true });
  }
}
