import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import Database from "better-sqlite3";

import { offset as toOffset } from "../../../src/event/positions.ts";
import { LogHistory } from "../../../src/restore/log-history.ts";
import { restore } from "../../../src/restore/restore.ts";
import { hasCode } from "../../../src/runtime/errors.ts";
import { systemClock } from "../../../src/runtime/clock.ts";
import { DEFAULT_BANK, type JournalEntry } from "../apps/bank.ts";
import { createBank, startWriter } from "../apps/bank-programs.ts";
import { reportOf } from "../apps/program.ts";
import { bankDigest, Recorder } from "../apps/recorder.ts";
import { SqlSession } from "../apps/sql-session.ts";
import { comparePages } from "../compare.ts";
import { Deployment } from "../deployment.ts";
import type { Random } from "../random.ts";
import { startTidemark } from "../tidemark-cli.ts";
import type { DiskEffect } from "./disk-journal.ts";
import { identityOf, keepIdentity } from "./file-identity.ts";
import { DiskRecording } from "./recording.ts";

export interface CutOptions {
  /** What the application's writers ask of SQLite. */
  readonly synchronous: "NORMAL" | "FULL";
  readonly recordMs: number;
}

/** What a machine held when its power was cut, and what it made of it. */
export interface CutReport {
  /** Transactions in the primary, in the standby (undefined: it had none), in the log, right after the cut. */
  readonly primary: number;
  readonly standby: number | undefined;
  readonly log: number | undefined;
  /** What the log got to become equal to the primary again; empty when it was. */
  readonly causes: readonly string[];
}

/**
 * An application with two writers and `run` beside it, on a disk of which every effect is recorded; then the power is
 * cut at moments of that recording, and the machine starts again with what the disk may hold.
 */
export class CutScene implements AsyncDisposable {
  readonly deployment = new Deployment();
  readonly recording = new DiskRecording(this.deployment.directory);
  readonly #random: Random;
  readonly #options: CutOptions;
  #effects: readonly DiskEffect[] = [];
  /** Effects before these are the installation of the application. */
  #firstEffect = 0;
  #recorder: Recorder | undefined;
  #identity = "";

  constructor(random: Random, options: CutOptions) {
    this.#random = random;
    this.#options = options;
  }

  /** Runs application and agent, and stops them. */
  async record(): Promise<void> {
    const { deployment, recording } = this;
    const { env } = recording;
    const { synchronous, recordMs } = this.#options;
    await createBank(deployment.database, DEFAULT_BANK, env);
    this.#firstEffect = recording.effects().length;
    await using agent = startTidemark(["run", "-c", deployment.configFile, "--json"], { env });
    const common = { database: deployment.database, bank: DEFAULT_BANK, synchronous, rate: 60, burst: 5 };
    const kinds = [{ truncateEvery: 50 }, { autocheckpoint: 20 }];
    const journals = kinds.map((_, writer) => this.#journalOf(writer));
    const writers = await Promise.all(
      kinds.map(async (kind, writer) =>
        startWriter({ ...common, ...kind, writer, journal: this.#journalOf(writer) }, env),
      ),
    );
    await agent.waitReady();
    await sleep(recordMs);
    for (const writer of writers) await reportOf(writer);
    assert.equal((await agent.stop()).code, 0);
    this.#effects = recording.effects();
    this.#recorder = new Recorder(DEFAULT_BANK, journals);
    this.#identity = identityOf(deployment.database);
  }

  /** Cuts the power at a moment drawn by lot, starts the machine and requires that all is well. */
  async cut(): Promise<CutReport> {
    const moment = this.#random.integer(this.#firstEffect, this.#effects.length);
    process.stdout.write(`cut after effect ${moment} of ${this.#effects.length}\n`);
    const acknowledged = this.#acknowledgedAt(moment);
    this.recording.cutPower(this.#effects.slice(0, moment), this.#random);
    keepIdentity(this.deployment, this.#identity);
    return this.#startMachine(acknowledged);
  }

  #journalOf(writer: number): string {
    return path.join(this.deployment.directory, `writer-${writer}.journal`);
  }

  /** What had been acknowledged for certain at a moment: transactions to the application, offsets to capture. */
  #acknowledgedAt(moment: number): { seq: number; offset: number } {
    const seqs = this.#effects.slice(0, moment).flatMap((effect) => {
      if (effect.kind !== "write" || !effect.path.endsWith(".journal")) return [];
      return [(JSON.parse(effect.data.toString()) as JournalEntry).seq];
    });
    // The bell is rung after a commit of the log's.
    const bell = this.#effects.slice(0, moment).findLastIndex(({ path: name }) => path.basename(name) === "bell");
    if (bell === -1) return { seq: Math.max(0, ...seqs), offset: 0 };
    this.recording.write(this.recording.replay(this.#effects.slice(0, bell)).now());
    return { seq: Math.max(0, ...seqs), offset: logHead(this.deployment.logDirectory) ?? 0 };
  }

  async #startMachine(acknowledged: { seq: number; offset: number }): Promise<CutReport> {
    const { deployment } = this;
    const head = logHead(deployment.logDirectory) ?? 0;
    assert.ok(head >= acknowledged.offset, `the log lost records: ${acknowledged.offset} acknowledged, ${head} left`);
    // The application is there first, or Tidemark is.
    await using early = new SqlSession(deployment.database);
    if (this.#random.next() < 0.5) await early.value("SELECT seq FROM head");
    const standby = this.#proved(deployment.standbyDatabase);
    const log = await this.#restored("latest");
    assert.ok((standby ?? 0) <= (log ?? 0), `the standby shows ${standby}, the log holds ${log}`);
    await using agent = startTidemark(["run", "-c", deployment.configFile, "--json"]);
    await agent.waitReady(30_000);
    assert.equal(await deployment.difference(), undefined);
    const primary = this.#proved(deployment.database) ?? 0;
    if (this.#options.synchronous === "FULL") assert.ok(primary >= acknowledged.seq, "the application lost commits");
    await early.run("INSERT INTO entries VALUES (1000000, 9, 9, randomblob(3000))");
    assert.equal(await deployment.difference(), undefined);
    const causes = await this.#causesAfter(head);
    if ((log ?? 0) > primary) assert.notDeepEqual(causes, [], "the log was ahead of the primary, and nothing says so");
    await this.#restoreSome(head);
    const { database } = await deployment.restore("latest");
    assert.equal(comparePages(deployment.database, database), undefined);
    assert.equal((await agent.stop()).code, 0);
    // What was recorded of the standby was on the disk, so nothing is to be repaired there.
    assert.doesNotMatch(agent.output.stderr, /repaired from the log|built anew|made anew/);
    return { primary, standby, log, causes };
  }

  /** The number of the last transaction in a database that must be as the bank once was; undefined when it is not there. */
  #proved(database: string): number | undefined {
    if (!fs.existsSync(database)) return undefined;
    const { seq, digest } = bankDigest(database);
    assert.equal(digest, this.#recorder?.digestAt(seq), `${database} at ${seq}`);
    return seq;
  }

  /** Undefined when the log holds no copy yet. */
  async #restored(to: "latest" | number): Promise<number | undefined> {
    const { deployment } = this;
    const directory = path.join(deployment.directory, "restored");
    if (logHead(deployment.logDirectory) === undefined) return undefined;
    await using log = await deployment.openLog();
    const target =
      to === "latest" ? ({ kind: "latest" } as const) : ({ kind: "offset", offset: toOffset(to) } as const);
    try {
      const { signal } = new AbortController();
      const how = { check: "full", force: false, dryRun: false, clock: systemClock, signal } as const;
      await restore({ history: new LogHistory(log), target, directory, ...how });
      return this.#proved(path.join(directory, path.basename(deployment.database)));
    } catch (error) {
      if (hasCode(error, "OFFSET_NOT_FOUND")) return undefined;
      throw error;
    } finally {
      fs.rmSync(directory, { recursive: true, force: true });
    }
  }

  async #causesAfter(head: number): Promise<string[]> {
    const since = (await this.deployment.events()).filter(({ offset }) => offset > head);
    const causes = since.map(({ body }) => (body.kind === "sqlite.commit" ? body.cause : "commit"));
    return causes.filter((cause) => cause !== "commit");
  }

  async #restoreSome(head: number): Promise<void> {
    const events = await this.deployment.events();
    const first = events.find(({ body }) => body.kind === "sqlite.commit")?.offset ?? Infinity;
    if (first > head) return;
    for (let times = 0; times < 3; times += 1) await this.#restored(this.#random.integer(first, head));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.deployment[Symbol.asyncDispose]();
    this.recording[Symbol.dispose]();
  }
}

/** Undefined when there is no log yet. */
function logHead(directory: string): number | undefined {
  const file = path.join(directory, "log.db");
  if (!fs.existsSync(file)) return undefined;
  const database = new Database(file);
  try {
    if (!database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'record'").get()) return undefined;
    const head = Number(database.prepare("SELECT max(offset) FROM record").pluck().get() ?? 0);
    return head === 0 ? undefined : head;
  } finally {
    database.close();
  }
}
