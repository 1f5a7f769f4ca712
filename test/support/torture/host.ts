import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { reportOfAgents } from "../../../src/cli/status.ts";
import { syncAgents } from "../../../src/cli/sync.ts";
import type { StatusReport } from "../../../src/observe/status-report.ts";
import { sleep, systemClock } from "../../../src/runtime/clock.ts";
import { Program } from "../apps/program.ts";
import { Deployment } from "../deployment.ts";
import type { NatsServer } from "../nats-server.ts";
import { SmallDisk } from "../small-disk.ts";
import { TcpProxy } from "../tcp-proxy.ts";
import { type RunningTidemark, startTidemark } from "../tidemark-cli.ts";
import { waitFor } from "../wait.ts";
import type { LedgerWriterOptions } from "./ledger-writer.ts";

const WRITER = fileURLToPath(new URL("ledger-writer.ts", import.meta.url));
const CLOCK = fileURLToPath(new URL("stepped-clock.ts", import.meta.url));
export const TREE = "uploads";
/** As long as a service manager waits, but shorter. */
const RESTART_MS = 300;
const STOP_MS = 8000;
/** Stopped, fenced, killed. */
const EXPECTED_ENDS: readonly number[] = [0, 5, 137];
const BEGIN_TIMEOUT_MS = 45_000;
const REJOIN_MS = 20_000;
/** What the units of docs/operations.md do not start again. */
const STAYS_ENDED: readonly number[] = [2, 5];
const WRITERS = [
  { everyMs: 60, autocheckpoint: 20 },
  { everyMs: 90, autocheckpoint: 1000 },
] as const;

export interface HostOptions {
  readonly name: string;
  readonly set: string;
  readonly servers: readonly NatsServer[];
  readonly role: "capture" | "replica";
  /** Further lines of the configuration. */
  readonly config: string;
  /** On a file system of its own, to be full. */
  readonly smallDisk: boolean;
  /** For journals, clocks and everything else that no fault is to touch. */
  readonly directory: string;
  readonly tell: (text: string) => void;
}

/** A machine: an agent and an application that a service manager starts again, a network, a disk and a clock of its own. */
export class Host implements AsyncDisposable {
  readonly name: string;
  readonly deployment: Deployment;
  readonly proxies: readonly TcpProxy[];
  readonly disk: SmallDisk | undefined;
  diskIsFull = false;
  /** Nobody is to have its databases open. */
  isOffline = false;
  readonly agents: RunningTidemark[] = [];
  readonly journals: string[] = [];
  /** With what agents ended that nobody stopped, fenced or killed. */
  readonly failures: string[] = [];
  readonly #options: HostOptions;
  #role: "capture" | "replica";
  #standbys = 1;
  #agentWanted = false;
  #supervised: Promise<void> = Promise.resolve();
  #appWanted = false;
  #apps: Promise<void>[] = [];
  readonly #writers = new Set<Program>();
  static #writerNumber = 0;

  private constructor(options: HostOptions, parts: Pick<Host, "deployment" | "proxies" | "disk">) {
    this.#options = options;
    this.name = options.name;
    this.#role = options.role;
    this.deployment = parts.deployment;
    this.proxies = parts.proxies;
    this.disk = parts.disk;
  }

  static async start(options: HostOptions): Promise<Host> {
    const { set, servers, config, name, directory } = options;
    const proxies = await Promise.all(servers.map(async ({ port }) => TcpProxy.start(port)));
    const own = path.join(directory, name);
    fs.mkdirSync(own);
    const disk = options.smallDisk ? new SmallDisk(own, 64) : undefined;
    const deployment = new Deployment({
      set,
      nats: proxies.map(({ address }) => address).join(","),
      config: `heartbeat: 400ms\nnats: { replicas: ${servers.length} }\n${config}`,
      trees: [`{ path: app/${TREE}, name: ${TREE}, maxDelete: 100% }`],
      parent: disk?.path ?? own,
    });
    return new Host(options, { deployment, proxies, disk });
  }

  /** Of the database that an application uses here, or would. */
  get place(): string {
    return this.#role === "capture" ? `${this.name}-app` : this.standbyPlace;
  }

  get standbyPlace(): string {
    return `${this.name}-${this.#standbys}`;
  }

  get database(): string {
    return this.#role === "capture" ? this.deployment.database : this.deployment.standbyDatabase;
  }

  get tree(): string {
    return this.#role === "capture" ? this.deployment.pathOf(TREE) : this.deployment.standbyOf(TREE);
  }

  /** The agent as it is now, even if it has ended. */
  get agent(): RunningTidemark | undefined {
    return this.agents.at(-1);
  }

  get writers(): readonly Program[] {
    return [...this.#writers];
  }

  get clockFile(): string {
    return path.join(this.#options.directory, this.name, "clock");
  }

  /** From now on an agent runs here. */
  startAgent(): void {
    if (this.#agentWanted) return;
    this.#agentWanted = true;
    this.#supervised = this.#supervised.then(async () => this.#supervise());
  }

  /** The same, and resolves when it is ready. */
  async firstReady(): Promise<void> {
    this.startAgent();
    await waitFor("the agent to be started", () => this.agent);
    await this.agent?.waitReady(BEGIN_TIMEOUT_MS);
  }

  async #supervise(): Promise<void> {
    const env = { NODE_OPTIONS: `--import=${CLOCK}`, TIDEMARK_TEST_CLOCK: this.clockFile };
    while (this.#agentWanted) {
      const agent = this.deployment.launchWith({ env }, this.#role);
      this.agents.push(agent);
      const { code } = await agent.exited;
      this.#options.tell(`${this.name}: ${this.#role} ended with ${code}`);
      if (!EXPECTED_ENDS.includes(code)) this.failures.push(`${this.name}: ${lastLine(agent.output.stderr)}`);
      if (STAYS_ENDED.includes(code)) return;
      if (this.#agentWanted) await sleep(RESTART_MS);
    }
  }

  /** As an administrator ends it; in the end with SIGKILL, as a service manager does. */
  async stopAgent(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    this.#agentWanted = false;
    const { agent } = this;
    agent?.child.kill("SIGCONT");
    agent?.child.kill(signal);
    const ended = new AbortController();
    void sleep(STOP_MS, ended.signal).then(() => ended.signal.aborted || agent?.child.kill("SIGKILL"));
    await this.#supervised;
    ended.abort();
  }

  /** From now on an application writes here. */
  startApp(): void {
    if (this.#appWanted) return;
    this.#appWanted = true;
    this.#apps = WRITERS.map(async (pace) => this.#runWriters(pace));
  }

  async #runWriters(pace: (typeof WRITERS)[number]): Promise<void> {
    while (this.#appWanted) {
      Host.#writerNumber += 1;
      const journal = path.join(this.#options.directory, this.name, `writer-${Host.#writerNumber}.journal`);
      this.journals.push(journal);
      const { database, tree: root, place } = this;
      const options: LedgerWriterOptions = { database, root, place, journal, writer: Host.#writerNumber, ...pace };
      const program = new Program([process.execPath, WRITER, JSON.stringify(options)]);
      this.#writers.add(program);
      const { code } = await program.exited;
      this.#writers.delete(program);
      if (code !== null && code !== 0)
        this.#options.tell(`${this.name}: application ended with ${code}: ${program.errors}`);
      if (this.#appWanted) await sleep(RESTART_MS);
    }
  }

  async stopApp(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    this.#appWanted = false;
    for (const { child } of this.#writers) {
      child.kill("SIGCONT");
      child.kill(signal);
    }
    await Promise.all(this.#apps);
  }

  /** `rejoin`, as often as it takes; killed the first time after `killMs`, if that is given. */
  async becomeStandby(killMs?: number): Promise<void> {
    await this.stopApp();
    await this.stopAgent();
    this.isOffline = true;
    for (let limitMs = killMs ?? REJOIN_MS; !(await this.#rejoin(limitMs)); limitMs = REJOIN_MS)
      await sleep(RESTART_MS);
    this.isOffline = false;
    this.#standbys += 1;
    this.#role = "replica";
    this.startAgent();
  }

  /** Whether it worked. */
  async #rejoin(limitMs: number): Promise<boolean> {
    const asked = ["rejoin", "-c", this.deployment.configFile, "--json"];
    const limit = new AbortController();
    const rejoin = startTidemark(asked);
    void sleep(limitMs, limit.signal).then(() => limit.signal.aborted || rejoin.child.kill("SIGKILL"));
    const { code, stdout, stderr } = await rejoin.exited;
    limit.abort();
    this.#options.tell(`${this.name}: rejoin: ${code} ${(stdout || stderr).trim()}`);
    return code === 0;
  }

  /** What its agent tells; undefined: it does not answer. */
  async status(): Promise<StatusReport | undefined> {
    const signal = AbortSignal.timeout(2000);
    return reportOfAgents(this.deployment, signal).catch(() => undefined);
  }

  /** Offset up to which `sync` confirms everything; undefined: it does not. */
  async sync(timeoutMs: number): Promise<number | undefined> {
    const signal = AbortSignal.timeout(timeoutMs);
    const asked = { applied: false, timeoutMs, clock: systemClock, signal };
    const answer = await syncAgents(this.deployment, asked).catch(() => undefined);
    return answer?.without === undefined ? answer?.offset : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopApp("SIGKILL");
    await this.stopAgent("SIGKILL");
    await this.deployment[Symbol.asyncDispose]();
    for (const proxy of this.proxies) await proxy[Symbol.asyncDispose]();
    this.disk?.[Symbol.dispose]();
  }
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}
