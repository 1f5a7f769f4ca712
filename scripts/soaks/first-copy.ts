/** A first copy of a large database under constant writes, with agents killed on the way. */
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import Database from "better-sqlite3";

import { openLog } from "../../src/compose.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { parseSize } from "../../src/config/units.ts";
import { BEFORE_FIRST } from "../../src/event/positions.ts";
import { readEvents } from "../../src/log/log-reader.ts";
import { askAgent } from "../../src/observe/control-client.ts";
import { Child, program, tidemark } from "../benchmarks/process.ts";
import { freePort, listening } from "../benchmarks/subjects.ts";
import { Sampler } from "./sampler.ts";
import { gibibytes, mebibytes, say, seconds, type Outcome, type Scenario } from "./scenario.ts";

const MIB = 2 ** 20;
const ROW_BYTES = 3500;
const LOOK_MS = 50;
/** The application alone, before and after the copy. */
const CALM_MS = 5000;
const READY_MS = 3_600_000;
const MOST_SHIPPED_TWICE = 0.2;
/** Four times what a WAL is sealed at. */
const MOST_WAL_BYTES = 64 * MIB;

export const firstCopy: Scenario = {
  summary:
    "a first copy under constant writes; capture and replica are killed (kill -9) on the way; every page is compared",
  options: {
    gib: { default: "5", help: "size of the database" },
    kills: { default: "3", help: "how often capture is killed" },
    "replica-kills": { default: "1", help: "how often the replica is killed" },
    log: { default: "embedded", help: "embedded, or nats: a server is started" },
    rate: { default: "200MiB", help: "copyRate; 0: none" },
    writes: { default: "100", help: "commits a second of the application" },
    seed: { default: "1", help: "of the moments of the kills" },
    directory: { default: os.tmpdir(), help: "where to work; needs seven times the database's size" },
  },
  run: async (options) => {
    const directory = fs.mkdtempSync(path.join(options["directory"] ?? os.tmpdir(), "tidemark-soak-"));
    try {
      return await new FirstCopy(directory, options).run();
    } finally {
      fs.rmSync(directory, { recursive: true, force: true });
    }
  },
};

type Agent = "capture" | "replica";

interface AppSecond {
  readonly atMs: number;
  readonly commits: number;
  readonly worstMs: number;
  readonly busy: number;
}

class FirstCopy {
  readonly #directory: string;
  readonly #options: Readonly<Record<string, string>>;
  readonly #database: string;
  readonly #standby: string;
  readonly #agents = new Map<Agent, Child>();
  readonly #sampler: Sampler;
  #random: number;

  constructor(directory: string, options: Readonly<Record<string, string>>) {
    this.#directory = directory;
    this.#options = options;
    this.#database = path.join(directory, "app", "app.db");
    this.#standby = path.join(directory, "standby");
    this.#random = Number(options["seed"]);
    this.#sampler = new Sampler(directory, `${this.#database}-wal`);
  }

  async run(): Promise<Outcome> {
    using _sampler = this.#sampler;
    const databaseBytes = this.#fill();
    await using server = this.#option("log") === "nats" ? await startNats(this.#directory) : undefined;
    this.#configure(server?.location ?? `embedded:${path.join(this.#directory, "log")}`);
    await using app = program("../soaks/app.ts", [this.#database, this.#option("writes"), this.#option("seed")]);
    await pause(CALM_MS);
    const startedMs = Date.now();
    try {
      const kills = await this.#copy(databaseBytes);
      const readyMs = Date.now();
      await this.#applied();
      const appliedMs = Date.now();
      say("the standby has it");
      await pause(CALM_MS);
      await app.stop();
      await this.#applied();
      await this.#stopAgents();
      const times = { startedMs, readyMs, appliedMs };
      return await this.#judge({ databaseBytes, kills, times, app: secondsOf(app) });
    } finally {
      await this.#stopAgents();
    }
  }

  #option(name: string): string {
    return this.#options[name] ?? "";
  }

  get #config(): string {
    return path.join(this.#directory, "tidemark.yml");
  }

  /** 0 <= x < 1 */
  #next(): number {
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) | 0;
    return (this.#random >>> 0) / 2 ** 32;
  }

  #fill(): number {
    say(`filling a database of ${this.#option("gib")} GiB`);
    fs.mkdirSync(path.dirname(this.#database));
    const db = new Database(this.#database);
    db.pragma("journal_mode=OFF");
    db.pragma("synchronous=OFF");
    db.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
    const insert = db.prepare("INSERT INTO t (body) VALUES (randomblob(?))");
    const rows = Math.ceil((Number(this.#option("gib")) * 2 ** 30) / 4096);
    db.transaction(() => {
      for (let row = 0; row < rows; row += 1) insert.run(ROW_BYTES);
    })();
    db.pragma("journal_mode=WAL");
    db.close();
    return fs.statSync(this.#database).size;
  }

  #configure(log: string): void {
    const rate = parseSize(this.#option("rate")) ?? 0;
    const lines = [
      "set: soak",
      `databases: [{ path: ${this.#database}, name: app.db }]`,
      `log: ${log}`,
      `standby: ${this.#standby}`,
      `state: ${path.join(this.#directory, "state")}`,
      ...(rate > 0 ? [`copyRate: ${rate}`] : []),
    ];
    fs.writeFileSync(this.#config, lines.join("\n"));
  }

  #start(agent: Agent): Child {
    const child = tidemark([agent, "-c", this.#config, "--json"]);
    this.#agents.set(agent, child);
    this.#sampler.watch(agent, child.pid);
    return child;
  }

  /** Starts both agents and kills them whenever the log has grown past the next moment. Returns how often. */
  async #copy(databaseBytes: number): Promise<number> {
    const moments = (["capture", "replica"] as const)
      .flatMap((agent) => {
        const count = Number(this.#option(agent === "capture" ? "kills" : "replica-kills"));
        return Array.from({ length: count }, () => ({ agent, bytes: (0.05 + 0.85 * this.#next()) * databaseBytes }));
      })
      .toSorted((a, b) => a.bytes - b.bytes);
    this.#start("capture");
    // The replica needs a log that is there.
    await this.#logHolds(1);
    this.#start("replica");
    for (const { agent, bytes } of moments) {
      await this.#logHolds(bytes);
      await this.#agents.get(agent)?.kill9();
      say(`killed ${agent} when the log held ${mebibytes(bytes)}`);
      this.#start(agent);
    }
    await this.#agents.get("capture")?.says('"ready":true', READY_MS);
    say("the copy is in the log");
    return moments.length;
  }

  async #applied(): Promise<void> {
    await tidemark(["sync", "--applied", "--timeout", "1h", "-c", this.#config, "--json"]).ended();
  }

  async #logHolds(bytes: number): Promise<void> {
    for (;;) {
      const child = this.#agents.get("capture");
      if (child?.hasEnded) throw new Error(`capture ended: ${child.errors}`);
      if ((await this.#logBytes()) >= bytes) return;
      await pause(LOOK_MS);
    }
  }

  /** As the capture agent says; 0 while it does not. */
  async #logBytes(): Promise<number> {
    try {
      const request = { method: "GET", path: "/status", timeoutMs: 5000 } as const;
      const status = await askAgent(path.join(this.#directory, "state"), request);
      return (status as { log: { bytes: number } | null }).log?.bytes ?? 0;
    } catch {
      return 0;
    }
  }

  async #stopAgents(): Promise<void> {
    for (const child of this.#agents.values()) await child[Symbol.asyncDispose]();
    this.#agents.clear();
  }

  async #judge(run: {
    readonly databaseBytes: number;
    readonly kills: number;
    readonly times: { readonly startedMs: number; readonly readyMs: number; readonly appliedMs: number };
    readonly app: readonly AppSecond[];
  }): Promise<Outcome> {
    say("comparing every page");
    const { databaseBytes, times, app } = run;
    const shipped = await this.#shipped();
    const differing = comparePages(this.#database, path.join(this.#standby, "app.db"));
    const before = app.filter(({ atMs }) => atMs <= times.startedMs);
    const during = app.filter(({ atMs }) => atMs > times.startedMs && atMs <= times.readyMs);
    const written = sum(during.map(({ commits }) => commits)) * shipped.bytesACommit;
    const allowed = (1 + MOST_SHIPPED_TWICE) * databaseBytes + written;
    const { walBytes, diskBytes } = this.#sampler.peaks;
    const busy = sum(app.map((second) => second.busy));
    const problems = [
      ...(differing > 0 ? [`${differing} pages differ`] : []),
      ...(shipped.copyBytes > allowed
        ? [`the copy shipped ${mebibytes(shipped.copyBytes)}, allowed ${mebibytes(allowed)}`]
        : []),
      ...(shipped.copies === 1 ? [] : [`the log holds ${shipped.copies} copies`]),
      ...(walBytes > MOST_WAL_BYTES ? [`the WAL grew to ${mebibytes(walBytes)}`] : []),
      ...(busy > 0 ? [`the application met SQLITE_BUSY ${busy} times`] : []),
    ];
    const figures = {
      databaseBytes,
      kills: run.kills,
      copyMs: times.readyMs - times.startedMs,
      appliedMs: times.appliedMs - times.startedMs,
      shippedBytes: shipped.copyBytes,
      writtenBytes: written,
      commits: sum(app.map(({ commits }) => commits)),
      busy,
      worstAloneMs: worst(before),
      worstStallMs: worst(during),
      walPeakBytes: walBytes,
      diskPeakBytes: diskBytes,
      rssPeakBytes: this.#sampler.rssBytes,
    };
    return { ok: problems.length === 0, problems, figures, rows: rowsOf(figures) };
  }

  /** Page images in the log: of the copy, and of a commit on the average. */
  async #shipped(): Promise<{ copyBytes: number; copies: number; bytesACommit: number }> {
    const flags = { config: this.#config };
    const { log, set } = loadConfig({ role: "run", flags, environment: {}, directory: this.#directory });
    if (!log) throw new Error("the configuration names a log");
    await using source = await openLog({ log, set, mode: "read" });
    const total = { copyBytes: 0, copies: 0, bytes: 0, commits: 0 };
    const { signal } = new AbortController();
    for await (const events of readEvents(source, { after: BEFORE_FIRST, follow: false, signal })) {
      for (const { body } of events) {
        if (body.kind !== "sqlite.part" && body.kind !== "sqlite.commit") continue;
        const bytes = body.pages.length * body.pageSize;
        if (total.copies === 0 || (body.kind === "sqlite.commit" && body.cause === "copy")) total.copyBytes += bytes;
        else total.bytes += bytes;
        if (body.kind !== "sqlite.commit") continue;
        total.commits += body.commits;
        if (body.cause === "copy") total.copies += 1;
      }
    }
    return { ...total, bytesACommit: total.bytes / Math.max(1, total.commits) };
  }
}

async function startNats(directory: string): Promise<AsyncDisposable & { readonly location: string }> {
  const port = await freePort();
  const store = path.join(directory, "nats");
  const server = new Child("nats-server", ["-js", "-sd", store, "-a", "127.0.0.1", "-p", String(port)]);
  await listening(port);
  return { location: `nats://127.0.0.1:${port}`, [Symbol.asyncDispose]: async () => server.stop() };
}

function rowsOf(figures: {
  readonly databaseBytes: number;
  readonly kills: number;
  readonly copyMs: number;
  readonly appliedMs: number;
  readonly shippedBytes: number;
  readonly writtenBytes: number;
  readonly commits: number;
  readonly worstAloneMs: number;
  readonly worstStallMs: number;
  readonly walPeakBytes: number;
  readonly diskPeakBytes: number;
  readonly rssPeakBytes: Readonly<Record<string, number>>;
}): (readonly [string, string])[] {
  const { databaseBytes, shippedBytes, rssPeakBytes } = figures;
  return [
    ["database", gibibytes(databaseBytes)],
    ["kills", String(figures.kills)],
    ["from the first start to the log, to the standby", `${seconds(figures.copyMs)}, ${seconds(figures.appliedMs)}`],
    ["shipped by the copy", `${gibibytes(shippedBytes)}, ${(shippedBytes / databaseBytes).toFixed(3)} x the database`],
    ["written by the application meanwhile", mebibytes(figures.writtenBytes)],
    ["commits of the application", String(figures.commits)],
    [
      "its worst stall alone, during the copy",
      `${figures.worstAloneMs.toFixed(0)} ms, ${figures.worstStallMs.toFixed(0)} ms`,
    ],
    ["largest WAL", mebibytes(figures.walPeakBytes)],
    [
      "most memory",
      Object.entries(rssPeakBytes)
        .map(([name, bytes]) => `${name} ${mebibytes(bytes)}`)
        .join(", "),
    ],
    ["most disk, the database included", gibibytes(figures.diskPeakBytes)],
  ];
}

function secondsOf(app: Child): AppSecond[] {
  const lines = app.output.split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as AppSecond);
}

function worst(app: readonly AppSecond[]): number {
  return Math.max(0, ...app.map(({ worstMs }) => worstMs));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

async function pause(ms: number): Promise<void> {
  await once(AbortSignal.timeout(ms), "abort");
}

/** How many pages differ between two databases that nobody has open any more. */
function comparePages(...files: readonly [string, string]): number {
  for (const file of files) {
    const db = new Database(file);
    db.pragma("wal_checkpoint(TRUNCATE)");
    db.close();
  }
  const [a, b] = files.map((file) => fs.openSync(file, "r")) as [number, number];
  const [first, second] = [Buffer.alloc(MIB), Buffer.alloc(MIB)];
  let differing = 0;
  try {
    for (let at = 0; ; at += MIB) {
      const length = fs.readSync(a, first, 0, MIB, at);
      const other = fs.readSync(b, second, 0, MIB, at);
      if (length === 0 && other === 0) return differing;
      for (let page = 0; page < Math.max(length, other); page += 4096) {
        const end = page + 4096;
        if (end > length || end > other || first.compare(second, page, end, page, end) !== 0) differing += 1;
      }
    }
  } finally {
    fs.closeSync(a);
    fs.closeSync(b);
  }
}
