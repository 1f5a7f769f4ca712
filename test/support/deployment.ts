import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import type { TreeCaptureStatus } from "../../src/capture/capture-agent.ts";
import { reportOfAgents } from "../../src/cli/status.ts";
import { syncAgents } from "../../src/cli/sync.ts";
import type { LogEvent, SqliteCommit } from "../../src/event/kinds.ts";
import { offset } from "../../src/event/positions.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { readEvents } from "../../src/log/log-reader.ts";
import type { StatusReport } from "../../src/observe/status-report.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { natsConfig } from "./nats-server.ts";
import { comparePages, type PageDifference } from "./compare.ts";
import { differences } from "./random-tree.ts";
import {
  lastJson,
  runTidemark,
  startTidemark,
  type CliOptions,
  type CliResult,
  type RunningTidemark,
} from "./tidemark-cli.ts";

const MAIN = path.resolve(import.meta.dirname, "../../src/cli/main.ts");

export interface DeploymentOptions {
  /** File names of the databases, their names in the set as well: `app.db` alone when left out. */
  readonly names?: readonly string[];
  /** Patterns of databases in the application's directory, beside `names`. */
  readonly patterns?: readonly string[];
  /** host:port of a NATS server; the embedded log when left out. */
  readonly nats?: string;
  readonly set?: string;
  /** Entries of `files` in the configuration file, paths relative to the deployment's directory. */
  readonly trees?: readonly string[];
  /** Further lines of the configuration file. */
  readonly config?: string;
  /** Everything in a directory below this one; below the temporary directory when left out. */
  readonly parent?: string;
  /** Somewhere else than in the deployment's directory. */
  readonly standby?: string;
  readonly logDirectory?: string;
}

/** A set of databases, its agents run by the real command line, everything in one temporary directory. */
export class Deployment implements AsyncDisposable {
  readonly directory: string;
  /** Of the application, with nothing in it but its database. */
  readonly databaseDirectory: string;
  readonly database: string;
  readonly standby: string;
  readonly standbyDatabase: string;
  readonly state: string;
  readonly logDirectory: string;
  readonly set: string;
  readonly configFile: string;
  readonly #nats: string | undefined;
  readonly #agents: RunningTidemark[] = [];
  #restores = 0;

  constructor(options: DeploymentOptions = {}) {
    const {
      patterns = [],
      names = patterns.length > 0 ? [] : ["app.db"],
      set = "e2e",
      trees = [],
      config = "",
    } = options;
    this.set = set;
    this.#nats = options.nats;
    this.directory = fs.mkdtempSync(path.join(options.parent ?? os.tmpdir(), "tidemark-e2e-"));
    this.databaseDirectory = path.join(this.directory, "app");
    this.state = path.join(this.directory, "state");
    this.configFile = path.join(this.directory, "tidemark.yml");
    fs.mkdirSync(this.databaseDirectory);
    const [name = ""] = names;
    this.database = this.pathOf(name);
    this.standby = options.standby ?? path.join(this.directory, "standby");
    this.standbyDatabase = this.standbyOf(name);
    this.logDirectory = options.logDirectory ?? path.join(this.directory, "log");
    const lines = [
      `set: ${set}`,
      ...(names.length + patterns.length > 0 ? ["databases:"] : []),
      ...names.map((one) => `  - { path: ${this.pathOf(one)}, name: ${one} }`),
      ...patterns.map((pattern) => `  - ${JSON.stringify(this.pathOf(pattern))}`),
      ...(trees.length > 0 ? ["files:", ...trees.map((tree) => `  - ${tree}`)] : []),
      `log: ${options.nats === undefined ? `embedded:${this.logDirectory}` : `nats://${options.nats}`}`,
      `standby: ${this.standby}`,
      `state: ${this.state}`,
      config,
    ];
    fs.writeFileSync(this.configFile, lines.join("\n"));
  }

  pathOf(name: string): string {
    return path.join(this.databaseDirectory, name);
  }

  standbyOf(name: string): string {
    return path.join(this.standby, name);
  }

  /** Starts an agent and waits until it says that it is ready. */
  async start(command: "run" | "capture" | "replica", ...args: string[]): Promise<RunningTidemark> {
    const agent = this.launch(command, ...args);
    await agent.waitReady();
    return agent;
  }

  /** Starts an agent that need not become ready. */
  launch(command: "run" | "capture" | "replica", ...args: string[]): RunningTidemark {
    return this.launchWith({}, command, ...args);
  }

  /** The same, under other conditions than this process's. */
  launchWith(options: CliOptions, command: "run" | "capture" | "replica", ...args: string[]): RunningTidemark {
    const agent = startTidemark([command, "-c", this.configFile, "--json", ...args], options);
    this.#agents.push(agent);
    return agent;
  }

  /** The command line for a tool that runs it for us. */
  commandLine(...args: string[]): string[] {
    return [process.execPath, MAIN, ...args];
  }

  /** A command to its end, with --json. */
  async command(...args: string[]): Promise<CliResult> {
    return runTidemark([...args, "-c", this.configFile, "--json"], { timeoutMs: 60_000 });
  }

  /** What a command that must succeed answers. */
  async answer(...args: string[]): Promise<Record<string, unknown>> {
    const { code, stdout, stderr } = await this.command(...args);
    if (code !== 0) throw new Error(`tidemark ${args.join(" ")} ended with ${code}\n${stdout}\n${stderr}`);
    return lastJson(stdout);
  }

  /** What `sync --applied` does, without a process for it: the command line has tests of its own. */
  async sync({ applied = true } = {}): Promise<{ readonly offset: number; readonly without?: readonly string[] }> {
    const { signal } = new AbortController();
    return syncAgents(this, { applied, timeoutMs: 60_000, clock: systemClock, signal });
  }

  /** What `status` does while agents run, likewise. */
  async status(): Promise<StatusReport> {
    const report = await reportOfAgents(this, new AbortController().signal);
    if (!report) throw new Error("no agent runs");
    return report;
  }

  /** `sync --applied`, then the pages in which standby and primary differ: undefined when they are equal. */
  async difference(): Promise<PageDifference | undefined> {
    await this.sync();
    return comparePages(this.database, this.standbyDatabase);
  }

  /** `sync --applied`, then the names of those of which standby and primary differ. */
  async differing(names: readonly string[]): Promise<string[]> {
    await this.sync();
    return names.filter((name) => comparePages(this.pathOf(name), this.standbyOf(name)) !== undefined);
  }

  /** `sync --applied`, then what rsync would do to make a tree on the standby like the primary's: "" when it is. */
  async treeDifference(name: string, leaveOut: readonly string[] = []): Promise<string> {
    await this.sync();
    return differences(this.pathOf(name), this.standbyOf(name), leaveOut);
  }

  /** What `status` says of the capture of one tree. */
  async treeState(name: string): Promise<TreeCaptureStatus> {
    const { capture } = await this.status();
    const found = capture?.files.find((tree) => tree.name === name);
    if (!found) throw new Error(`status knows no tree ${name}`);
    return found;
  }

  /** What `status` says of the capture of each database. */
  async captureStates(): Promise<Record<string, string>> {
    const { capture } = await this.status();
    return Object.fromEntries((capture?.databases ?? []).map(({ name, state }) => [name, state]));
  }

  /** How often the log says that a gap was repaired. */
  async repairs(): Promise<number> {
    return (await this.commits()).filter((commit) => commit.cause === "repair").length;
  }

  /** Restores to `to` and gives the path of the database and the report. */
  async restore(to: string): Promise<{ database: string; report: Record<string, unknown> }> {
    this.#restores += 1;
    const target = path.join(this.directory, `restore-${this.#restores}`);
    const report = await this.answer("restore", "--target", target, "--to", to);
    return { database: path.join(target, path.basename(this.database)), report };
  }

  /** The log, to read. */
  async openLog(): Promise<ChangeLog> {
    const { set } = this;
    if (this.#nats !== undefined) return openJetStreamLog({ config: natsConfig(this.#nats), set, mode: "read" });
    return openEmbeddedLog({ directory: this.logDirectory, set, mode: "read" });
  }

  /** What the log holds now. */
  async events(): Promise<LogEvent[]> {
    await using log = await this.openLog();
    const events: LogEvent[] = [];
    const { signal } = new AbortController();
    const after = offset((await log.bounds()).first - 1);
    for await (const batch of readEvents(log, { after, follow: false, signal })) events.push(...batch);
    return events;
  }

  async commits(): Promise<SqliteCommit[]> {
    const events = await this.events();
    return events.map(({ body }) => body).filter((body) => body.kind === "sqlite.commit");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents) await agent[Symbol.asyncDispose]();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}
