import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

import { pino } from "pino";

import { startCapture } from "../../src/capture/start-capture.ts";
import type { CaptureAgent } from "../../src/capture/capture-agent.ts";
import { configOf } from "./config-of.ts";
import type { LogEvent, SqliteCommit, SqlitePart } from "../../src/event/kinds.ts";
import { BEFORE_FIRST, type Offset } from "../../src/event/positions.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { LogHistory } from "../../src/restore/log-history.ts";
import type { RestoreTarget } from "../../src/restore/restore-target.ts";
import { restore } from "../../src/restore/restore.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { comparePages } from "./compare.ts";
import type { Deployment } from "./deployment.ts";
import type { RunningTidemark } from "./tidemark-cli.ts";
import { waitFor, within } from "./wait.ts";

export type Shipped = LogEvent & { readonly body: SqlitePart | SqliteCommit };

/** Copies under way: captures in this process that are stopped in them, and the log as a killed agent could have left it. */
export class CopyScene {
  readonly #deployment: Deployment;
  readonly #name: string;

  constructor(deployment: Deployment, name = "app.db") {
    this.#deployment = deployment;
    this.#name = name;
  }

  /** Bytes of the log; 0 before it is there. */
  async logBytes(): Promise<number> {
    if (!fs.existsSync(this.#deployment.logDirectory)) return 0;
    await using log = await this.#deployment.openLog();
    return (await log.bounds()).bytes;
  }

  /** Resolves when the log has grown by so many bytes since the call. */
  async grownBy(bytes: number, agent?: RunningTidemark): Promise<void> {
    const before = await this.logBytes();
    const grown = async (): Promise<boolean> => {
      if (agent && agent.child.exitCode !== null) throw new Error(`the agent ended: ${agent.output.stderr}`);
      return (await this.logBytes()) >= before + bytes;
    };
    await waitFor(`the log grows by ${bytes} bytes`, grown, { everyMs: 10 });
  }

  /** Captures in this process until `work` is done, then stops as on SIGTERM. */
  async capture(
    work: (agent: CaptureAgent) => Promise<void>,
    options: { readonly copyRate?: number } = {},
  ): Promise<void> {
    const { configFile: config, logDirectory: directory, set } = this.#deployment;
    const loaded = configOf(config, "capture");
    const copyBytesPerSecond = options.copyRate;
    const stop = new AbortController();
    await using log = await openEmbeddedLog({ directory, set, mode: "write" });
    const agent = await startCapture({
      config: { ...loaded, capture: { ...loaded.capture, copyBytesPerSecond } },
      log,
      logger: pino({ enabled: false }),
      clock: systemClock,
      signal: stop.signal,
    });
    try {
      await within("the capture", 30_000, work(agent));
    } finally {
      stop.abort();
      await within("the capture ends", 10_000, agent.done);
    }
  }

  /** To the end of the copy or repair. */
  async captureAll(): Promise<void> {
    await this.capture(async (agent) => agent.ready);
  }

  /** Stops when so many bytes of a copy are in the log. */
  async captureSome(bytes: number): Promise<void> {
    await this.capture(async () => this.grownBy(bytes), { copyRate: bytes });
  }

  /** Everything shipped of the database. */
  async shipped(): Promise<Shipped[]> {
    return (await this.#deployment.events()).filter(
      (event): event is Shipped => "database" in event.body && event.body.database === this.#name,
    );
  }

  /** Bytes of page images among them. */
  async shippedBytes(): Promise<number> {
    return (await this.shipped()).reduce((sum, { body }) => sum + body.pages.length * body.pageSize, 0);
  }

  async commits(): Promise<SqliteCommit[]> {
    return (await this.shipped()).map(({ body }) => body).filter((body) => body.kind === "sqlite.commit");
  }

  /** A restore to the end of the log must be the database. */
  async requireEqual(): Promise<void> {
    const restored = await restoreHere(this.#deployment, { kind: "latest" });
    assert.equal(comparePages(this.#deployment.database, path.join(restored, this.#name)), undefined);
    fs.rmSync(restored, { recursive: true });
  }

  /** Keeps log and state as they are now, to be put back. No agent may be running. */
  keep(name: string): void {
    const { state, logDirectory } = this.#deployment;
    fs.cpSync(state, `${state}-${name}`, { recursive: true });
    fs.cpSync(logDirectory, `${logDirectory}-${name}`, { recursive: true });
  }

  /** Puts the state kept as `state` back, and of the log kept as `log` the records up to `through`. */
  async putBack(kept: { readonly state: string; readonly log: string; readonly through: Offset }): Promise<void> {
    const { logDirectory, state, set } = this.#deployment;
    for (const directory of [logDirectory, state]) fs.rmSync(directory, { recursive: true });
    fs.cpSync(`${state}-${kept.state}`, state, { recursive: true });
    await using from = await openEmbeddedLog({ directory: `${logDirectory}-${kept.log}`, set, mode: "read" });
    await using to = await openEmbeddedLog({ directory: logDirectory, set, mode: "write" });
    const { signal } = new AbortController();
    let head: Offset = BEFORE_FIRST;
    for await (const batch of from.read(BEFORE_FIRST, { signal, follow: false })) {
      const records = batch.filter((record) => record.offset <= kept.through).map(({ data }) => data);
      if (records.length > 0) head = await to.append(records, head, signal);
    }
  }
}

/** Restores in this process, without what a command line takes to start; gives the directory. */
export async function restoreHere(deployment: Deployment, target: RestoreTarget): Promise<string> {
  const directory = path.join(deployment.directory, "restored-here");
  await using log = await deployment.openLog();
  const { signal } = new AbortController();
  const how = { check: "full", force: false, dryRun: false, clock: systemClock, signal } as const;
  const report = await restore({ history: new LogHistory(log), target, directory, ...how });
  assert.equal(report.ok, true);
  return directory;
}
