import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import { type Offset, offset } from "../../src/event/positions.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { FsStore } from "../../src/repository/fs-store.ts";
import type { Repository } from "../../src/repository/repository.ts";
import { TidemarkError } from "../../src/runtime/errors.ts";
import { LogBeside } from "../support/log-beside.ts";
import { Random } from "../support/random.ts";
import { ArchiveBench } from "./support/archive-bench.ts";
import { expectRestored } from "./support/tree-bench.ts";

const random = new Random("restore beside a trim");
/** Events that are archived before the restore begins; there is a base among them. */
const ARCHIVED = 12;

let scene: ArchiveBench;
let head: Offset;
let copies = 0;
beforeAll(async () => {
  scene = await ArchiveBench.open();
  await scene.commit("app.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
  for (let round = 0; round < 6; round += 1) {
    await scene.commit("app.db", "INSERT INTO t (body) VALUES (randomblob(30000))");
    head = await scene.change(`echo ${round} > small${round}; head -c 50000 /dev/urandom > large${round}`);
  }
  await using repository = await scene.repository("write");
  await scene.archive(repository, { through: ARCHIVED, perSegment: 5 });
  await scene.base(repository, offset(8), random);
});
afterAll(async () => await scene[Symbol.asyncDispose]());

/** A copy of the log and of the repository, for one restore. */
class Copy implements AsyncDisposable {
  readonly #writing: ChangeLog;
  readonly #name: string;
  readonly log: LogBeside;
  readonly repository: Repository;
  /** Before the log answers this question it is trimmed, and what goes archived before. */
  trimAt = 0;
  archives = true;

  private constructor(name: string, writing: ChangeLog, repository: Repository) {
    this.#name = name;
    this.#writing = writing;
    this.repository = repository;
    this.log = new LogBeside(writing, (question) => this.#meanwhile(question));
  }

  static async make(): Promise<Copy> {
    const name = `copy-${(copies += 1)}`;
    const directory = scene.directory(`${name}-log`);
    // By another process: here the log's file is open.
    execFileSync("cp", ["-a", path.join(scene.bench.directory, "log"), directory]);
    fs.cpSync(scene.directory(), scene.directory(name), { recursive: true, preserveTimestamps: true });
    const repository = await scene.repository("read", new FsStore(scene.directory(name)));
    return new Copy(name, await openEmbeddedLog({ directory, set: "app", mode: "write" }), repository);
  }

  async #meanwhile(question: number): Promise<void> {
    if (question !== this.trimAt) return;
    if (this.archives) {
      await using repository = await scene.repository("write", new FsStore(scene.directory(this.#name)));
      await scene.archive(repository, { after: ARCHIVED, perSegment: 4 });
      await scene.base(repository, head, random);
    }
    await this.#writing.trim(head);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing[Symbol.asyncDispose]();
    await this.repository[Symbol.asyncDispose]();
  }
}

/** Exactly what was recorded, or refused. */
async function restored({ log, repository }: Copy, from: "log" | "both"): Promise<void> {
  const both = { repositories: [repository], withLog: true };
  const { directory, offset: at } = await scene.restore("latest", { changeLog: log, ...(from === "both" ? both : {}) });
  expect(at).toBe(head);
  const recorded = scene.at(head);
  const image = recorded?.images.get("app.db") ?? Buffer.alloc(0);
  expect(Buffer.compare(fs.readFileSync(path.join(directory, "app.db")), image)).toBe(0);
  expectRestored(directory, recorded?.picture ?? {});
  fs.rmSync(directory, { recursive: true });
}

/** How often the log is asked for something by a restore that nobody disturbs. */
async function questionsOf(from: "log" | "both"): Promise<number> {
  await using copy = await Copy.make();
  await restored(copy, from);
  return copy.log.questions;
}

test("whenever the log is trimmed beside a restore, what went is taken from the repository, contents of files too", async () => {
  const questions = await questionsOf("both");
  expect(questions).toBeGreaterThan(5);
  for (const question of [1, ...Array.from({ length: 6 }, () => random.integer(2, questions))]) {
    await using copy = await Copy.make();
    copy.trimAt = question;
    await restored(copy, "both");
    expect((await copy.log.bounds()).first).toBe(head);
  }
});

test.each(["both", "log"] as const)(
  "what was trimmed meanwhile and is nowhere else is said to be missing, and what can be done (%s)",
  async (from) => {
    const questions = await questionsOf(from);
    const said = new Set<string>();
    for (const question of [1, ...Array.from({ length: 2 }, () => random.integer(2, questions))]) {
      await using copy = await Copy.make();
      Object.assign(copy, { trimAt: question, archives: false });
      // At the end nothing of it is needed any more.
      const refused: unknown = await restored(copy, from).catch((error: unknown) => error);
      if (refused === undefined) continue;
      expect(refused).toBeInstanceOf(TidemarkError);
      const { code, message, hint } = refused as TidemarkError;
      said.add(code);
      expect(message).toMatch(/offset (1|13) is not there: events go on at|expected offset 1, got|begins at/);
      expect(hint).toMatch(/--repository|restore --list|--database/);
    }
    expect([...said].filter((code) => code !== "OFFSET_NOT_FOUND" && code !== "LOG_GAP")).toEqual([]);
    expect(said.size).toBeGreaterThan(0);
    expect(scene.bench.leftInTargets()).toEqual([]);
  },
);
