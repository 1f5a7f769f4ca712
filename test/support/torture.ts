import assert from "node:assert/strict";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import type { LogEvent } from "../../src/event/kinds.ts";
import type { RestoreTarget } from "../../src/restore/restore-target.ts";
import { DEFAULT_BANK } from "./apps/bank.ts";
import { createBank, startReader, startWriter } from "./apps/bank-programs.ts";
import { reportOf, type Program } from "./apps/program.ts";
import type { ReaderReport } from "./apps/reader.ts";
import { bankDigest, Recorder } from "./apps/recorder.ts";
import type { WriterOptions, WriterReport } from "./apps/writer.ts";
import { Deployment } from "./deployment.ts";
import { NatsServer } from "./nats-server.ts";
import type { Random } from "./random.ts";
import { restoreHere } from "./restore-here.ts";
import type { RunningTidemark } from "./tidemark-cli.ts";

const READY_TIMEOUT_MS = 45_000;
/** A commit is in the log within this time while capture runs, on a loaded machine. */
const CAPTURED_WITHIN_MS = 3000;

export interface TortureOptions {
  readonly random: Random;
  /** Deaths of each agent. */
  readonly rounds: number;
  /** To offsets, and as many to times. */
  readonly restores: number;
}

/** `run` is killed again and again, then a capture and a replica that follow it. */
export async function tortureEmbedded({ random, rounds, restores }: TortureOptions): Promise<void> {
  await using deployment = new Deployment();
  await using torture = new Torture(deployment, random);
  await torture.begin(["run"]);
  for (let round = 0; round < rounds; round += 1) await torture.kill("run");
  await torture.stop("run");
  await torture.start("capture");
  await torture.start("replica");
  for (let round = 0; round < rounds; round += 1) {
    await torture.kill("capture");
    await torture.kill("replica");
  }
  await torture.finish({ rounds, restores });
}

/** Agents and, in between, their server. */
export async function tortureNats({ random, rounds, restores }: TortureOptions): Promise<void> {
  await using server = await NatsServer.start();
  await using deployment = new Deployment({ nats: server.address });
  await using torture = new Torture(deployment, random);
  await torture.begin(["capture", "replica"]);
  for (let round = 0; round < rounds; round += 1) {
    await torture.kill("capture");
    await torture.kill("replica");
    if (round % 2 === 0) {
      await server.kill();
      await server.start();
    }
  }
  await torture.finish({ rounds, restores });
}

/** Of each writer in a round. */
const LEAST_COMMITS = 75;

type AgentName = "run" | "capture" | "replica";

/** When no capture was running, or not for long enough: ms since 1970. */
interface Absence {
  readonly fromMs: number;
  readonly toMs: number;
}

/**
 * Three writers, two readers of the standby, and agents that are killed and started again. At the end everything must
 * be equal, and any moment restorable.
 */
class Torture implements AsyncDisposable {
  readonly #deployment: Deployment;
  readonly #random: Random;
  readonly #agents = new Map<AgentName, RunningTidemark>();
  readonly #absences: Absence[] = [];
  readonly #writers: Program[] = [];
  readonly #readers: Program[] = [];
  readonly #journals: string[] = [];

  constructor(deployment: Deployment, random: Random) {
    this.#deployment = deployment;
    this.#random = random;
  }

  /** Starts agents and programs. */
  async begin(agents: readonly AgentName[]): Promise<void> {
    const { database, standbyDatabase } = this.#deployment;
    await createBank(database, DEFAULT_BANK);
    const kinds: Partial<WriterOptions>[] = [{ autocheckpoint: 20 }, { truncateEvery: 200 }, {}];
    for (const [writer, kind] of kinds.entries()) {
      const journal = path.join(this.#deployment.directory, `writer-${writer}.journal`);
      this.#journals.push(journal);
      const options = { database, journal, writer, bank: DEFAULT_BANK, rate: 40, burst: 4, ...kind };
      this.#writers.push(await startWriter(options));
    }
    for (const everyMs of [15, 40]) {
      const options = { database: standbyDatabase, bank: DEFAULT_BANK, everyMs, reopenEvery: 10 };
      this.#readers.push(await startReader(options));
    }
    for (const agent of agents) await this.start(agent);
  }

  /** kill -9 in the middle of the work, sometimes again while it starts; then the same agent again. */
  async kill(name: AgentName): Promise<void> {
    await sleep(this.#random.integer(500, 2000));
    const fromMs = Date.now();
    await this.#agents.get(name)?.kill9();
    for (let again = this.#random.integer(0, 2); again > 0; again -= 1) {
      const agent = this.#deployment.launch(name);
      await sleep(this.#random.integer(100, 900));
      await agent.kill9();
    }
    await this.start(name);
    if (name !== "replica") this.#absences.push({ fromMs, toMs: Date.now() });
  }

  /** A stop as an administrator does it. */
  async stop(name: AgentName): Promise<void> {
    const fromMs = Date.now();
    const ended = await this.#agents.get(name)?.stop();
    assert.equal(ended?.code, 0, ended?.stderr);
    this.#absences.push({ fromMs, toMs: fromMs + 5000 });
  }

  async start(name: AgentName): Promise<void> {
    const agent = this.#deployment.launch(name);
    this.#agents.set(name, agent);
    await agent.waitReady(READY_TIMEOUT_MS);
  }

  /** Ends the programs and requires that everything is as it must be. */
  async finish({ rounds, restores }: Omit<TortureOptions, "random">): Promise<void> {
    await sleep(1000);
    const writers = await Promise.all(this.#writers.map(async (writer) => reportOf<WriterReport>(writer)));
    assert.equal(await this.#deployment.difference(), undefined);
    const readers = await Promise.all(this.#readers.map(async (reader) => reportOf<ReaderReport>(reader)));
    process.stdout.write(`writers ${JSON.stringify(writers)}\nreaders ${JSON.stringify(readers)}\n`);
    for (const report of readers) {
      assert.deepEqual(report.violations, []);
      assert.equal(report.busyErrors, 0);
      assert.ok(report.states > 50, `a reader saw ${report.states} states`);
    }
    for (const report of writers) {
      assert.equal(report.busyErrors, 0);
      assert.ok(report.commits > LEAST_COMMITS * rounds, `a writer made ${report.commits} commits`);
    }
    const recorder = new Recorder(DEFAULT_BANK, this.#journals);
    const { seq, digest } = bankDigest(this.#deployment.standbyDatabase);
    assert.equal(seq, recorder.lastSeq);
    assert.equal(digest, recorder.digestAt(seq));
    await this.#restoreEverywhere(recorder, restores);
  }

  /** Offsets and times, each exactly what the recorder wrote down. */
  async #restoreEverywhere(recorder: Recorder, restores: number): Promise<void> {
    const events = await this.#deployment.events();
    const first = events.find(({ body }) => body.kind === "sqlite.commit");
    const last = events.at(-1);
    if (!first || !last) throw new Error("the log holds no commit");
    let seqBefore = 0;
    const offsets = Array.from({ length: restores }, () => this.#random.integer(first.offset, last.offset));
    for (const wanted of offsets.toSorted((a, b) => a - b)) {
      const event = events[wanted - 1];
      if (!event) throw new Error(`the log holds no event ${wanted}`);
      const seq = await this.#restoreTo({ kind: "offset", offset: event.offset }, { event, recorder });
      assert.ok(seq >= seqBefore, `offset ${wanted} holds ${seq}, an earlier one held ${seqBefore}`);
      seqBefore = seq;
    }
    for (let times = 0; times < restores; times += 1) {
      const timeMs = this.#random.integer(first.timeMs, last.timeMs);
      const event = events.findLast((one) => one.timeMs <= timeMs) ?? first;
      const text = new Date(timeMs).toISOString();
      const seq = await this.#restoreTo({ kind: "time", timeMs, text }, { event, recorder });
      assert.ok(recorder.entry(seq).beforeMs <= timeMs, `${text} holds ${seq}, which was made later`);
      const sureMs = timeMs - CAPTURED_WITHIN_MS;
      const away = this.#absences.some(({ fromMs, toMs }) => fromMs < timeMs && toMs > sureMs);
      const least = away ? 0 : recorder.lastEndedBefore(sureMs);
      assert.ok(seq >= least, `${text} holds ${seq}, but ${least} had ended`);
    }
  }

  /** Restores and compares; returns the number of the last transaction in it. */
  async #restoreTo(target: RestoreTarget, expected: { event: LogEvent; recorder: Recorder }): Promise<number> {
    return restoreHere(this.#deployment, target, (database, report) => {
      assert.deepEqual([report.ok, report.offset], [true, expected.event.offset]);
      const { seq, digest } = bankDigest(database);
      assert.equal(digest, expected.recorder.digestAt(seq), `restored to ${JSON.stringify(target)}`);
      return seq;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const program of [...this.#writers, ...this.#readers]) await program[Symbol.asyncDispose]();
  }
}
