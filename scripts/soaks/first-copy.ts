/** A first copy of a large database under constant writes, with agents killed on the way. */
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import Database from "better-sqlite3";

import { parseSize } from "../../src/config/units.ts";
import { askAgent } from "../../src/observe/control-client.ts";
import { Child, program, tidemark } from "../benchmarks/process.ts";
import { freePort, listening } from "../benchmarks/subjects.ts";
import { judge, type AppSecond } from "./copy-figures.ts";
import { Sampler } from "./sampler.ts";
import { mebibytes, say, type Outcome, type Scenario } from "./scenario.ts";

const ROW_BYTES = 3500;
const LOOK_MS = 50;
/** The application alone, before and after the copy. */
const CALM_MS = 5000;
const READY_MS = 3_600_000;

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
      say("comparing every page");
      return await judge({
        config: this.#config,
        database: this.#database,
        standbyDatabase: path.join(this.#standby, "app.db"),
        databaseBytes,
        kills,
        times,
        app: secondsOf(app),
        sampler: this.#sampler,
      });
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
}

async function startNats(directory: string): Promise<AsyncDisposable & { readonly location: string }> {
  const port = await freePort();
  const store = path.join(directory, "nats");
  const server = new Child("nats-server", ["-js", "-sd", store, "-a", "127.0.0.1", "-p", String(port)]);
  await listening(port);
  return { location: `nats://127.0.0.1:${port}`, [Symbol.asyncDispose]: async () => server.stop() };
}

function secondsOf(app: Child): AppSecond[] {
  const lines = app.output.split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as AppSecond);
}

async function pause(ms: number): Promise<void> {
  await once(AbortSignal.timeout(ms), "abort");
}
