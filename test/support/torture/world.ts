import { randomUUID } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

import { sleep } from "../../../src/runtime/clock.ts";
import { NatsCluster } from "../nats-cluster.ts";
import { NatsServer } from "../nats-server.ts";
import { type CliResult, lastJson } from "../tidemark-cli.ts";
import { within } from "../wait.ts";
import { Host } from "./host.ts";
import { machineMs, readJournals } from "./journal.ts";
import { fillLedger } from "./ledger.ts";
import { StandbyReader } from "./standby-reader.ts";
import type { Evidence, Seen, Sync } from "./verdict.ts";

const SYNC_EVERY_MS = 200;
const SYNC_TIMEOUT_MS = 3000;
/** A command that still runs then is not waited for until the end. */
const COMMAND_TIMEOUT_MS = 30_000;

/** One NATS server, or three. They serve many worlds, one after the other. */
export class LogServers implements AsyncDisposable {
  readonly servers: readonly NatsServer[];
  readonly #owner: AsyncDisposable;

  private constructor(owner: AsyncDisposable, servers: readonly NatsServer[]) {
    this.#owner = owner;
    this.servers = servers;
  }

  static async start(count: 1 | 3): Promise<LogServers> {
    if (count === 3) {
      // What is between hosts and servers is a proxy for each: nobody is to find a way around it.
      const cluster = await NatsCluster.start(3, { advertise: false });
      return new LogServers(cluster, cluster.servers);
    }
    const server = await NatsServer.start();
    return new LogServers(server, [server]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owner[Symbol.asyncDispose]();
  }
}

export interface WorldOptions {
  readonly servers: LogServers;
  readonly smallDisks: boolean;
  /** For all that is left of it. */
  readonly directory: string;
}

/** Three hosts of one set: where the application is, who reads and who asks, and what everybody was told. */
export class World implements AsyncDisposable {
  readonly hosts: readonly Host[];
  readonly servers: readonly NatsServer[];
  readonly directory: string;
  /** Where users are sent. */
  active: Host;
  /** Faults that are told to no host: something waits on it already. */
  readonly busy = new Set<unknown>();
  readonly seen: Seen[] = [];
  readonly syncs: Sync[] = [];
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[] = [];
  readonly #beganMs = machineMs();
  readonly #commands = new Set<Promise<unknown>>();

  private constructor(hosts: readonly [Host, ...Host[]], { servers, directory }: WorldOptions) {
    this.hosts = hosts;
    this.active = hosts[0];
    this.servers = servers.servers;
    this.directory = directory;
  }

  /** Until the application writes and both standbys follow. */
  static async start(options: WorldOptions): Promise<World> {
    const { servers, smallDisks: smallDisk, directory } = options;
    const set = `torture-${randomUUID().slice(0, 8)}`;
    const beganMs = machineMs();
    const tell = (text: string): void => tellTo(directory, machineMs() - beganMs, text);
    const common = { set, servers: servers.servers, smallDisk, directory, tell };
    const repository = `repository: ${path.join(directory, "repository")}`;
    const hosts = [
      await Host.start({ ...common, name: "a", role: "capture", config: "" }),
      await Host.start({ ...common, name: "b", role: "replica", config: "" }),
      await Host.start({ ...common, name: "c", role: "replica", config: repository }),
    ] as const;
    const world = new World([...hosts], options);
    await world.#begin(hosts[0]);
    return world;
  }

  async #begin(primary: Host): Promise<void> {
    const database = new Database(primary.database);
    database.pragma("journal_mode=WAL");
    fillLedger(database);
    database.close();
    fs.mkdirSync(primary.tree);
    primary.startApp();
    await primary.firstReady();
    await Promise.all(this.standbys.map(async (host) => host.firstReady()));
    for (const host of this.hosts) {
      const reader = new StandbyReader(host, this.seen);
      this.#loops.push(reader.run(this.#stop.signal), this.#askForSync(host));
    }
  }

  /** An application that wants to know that its commits are safe; on every host, also where it should not be any more. */
  async #askForSync(host: Host): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const { place } = host;
      const calledMs = machineMs();
      const offset = host.writers.length === 0 ? undefined : await host.sync(SYNC_TIMEOUT_MS);
      if (offset !== undefined) this.syncs.push({ place, calledMs, offset });
      await sleep(SYNC_EVERY_MS, signal);
    }
  }

  /** Those that users are not sent to. */
  get standbys(): readonly Host[] {
    return this.hosts.filter((host) => host !== this.active);
  }

  tell(text: string): void {
    tellTo(this.directory, machineMs() - this.#beganMs, text);
  }

  /** What an operator types; undefined: it did not end. */
  async command(host: Host, ...words: string[]): Promise<CliResult | undefined> {
    const what = `${host.name}: tidemark ${words.join(" ")}`;
    this.tell(what);
    const run = host.deployment.command(...words).catch((error: unknown) => this.tell(String(error)));
    this.#commands.add(run);
    void run.finally(() => this.#commands.delete(run));
    const result = (await within(what, COMMAND_TIMEOUT_MS, run).catch(() => undefined)) ?? undefined;
    this.tell(`${what}: ${result ? `${result.code} ${(result.stdout || result.stderr).trim()}` : "it does not end"}`);
    return result;
  }

  /** Nobody decides who the primary is while an order is under way that may change it. */
  async commandsEnded(): Promise<void> {
    await Promise.all(this.#commands);
  }

  /** Promotes a standby and sends the users there if that worked. The code of the refusal; undefined: it worked. */
  async promote(host: Host, ...flags: string[]): Promise<string | undefined> {
    const result = await this.command(host, "promote", "--timeout", "5s", ...flags);
    if (result?.code !== 0) return result ? String(lastJson(result.stderr)["code"]) : "none";
    this.active = host;
    host.startApp();
    return undefined;
  }

  /** The primary hands its place over, and the users follow. */
  async switchOver(): Promise<void> {
    const result = await this.command(this.active, "switchover", "--timeout", "5s");
    if (result?.code !== 0) return;
    const { to } = lastJson(result.stdout) as { to: { standby: string } };
    const host = this.hosts.find(({ deployment }) => deployment.standby === to.standby);
    if (!host) throw new Error(`switched over to ${to.standby}`);
    this.active = host;
    host.startApp();
  }

  /** Ends readers and questions. */
  async stopLooking(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#loops);
  }

  told(): Pick<Evidence, "journal" | "syncs" | "seen" | "ends"> {
    const journal = readJournals(this.hosts.flatMap(({ journals }) => journals));
    const ends = this.hosts.flatMap(({ failures }) => failures);
    return { journal, syncs: this.syncs, seen: this.seen, ends };
  }

  /** What agents wrote, for whoever looks for the cause. */
  keepLogs(): void {
    for (const { name, agents } of this.hosts) {
      const text = agents.map(({ output }) => `${output.stdout}\n${output.stderr}\n---- ended\n`).join("");
      fs.writeFileSync(path.join(this.directory, `agent-${name}.log`), text);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopLooking();
    await Promise.all(this.hosts.map(async (host) => host[Symbol.asyncDispose]()));
  }
}

function tellTo(directory: string, ms: number, text: string): void {
  fs.appendFileSync(path.join(directory, "story.log"), `${(ms / 1000).toFixed(2).padStart(6)} ${text}\n`);
}
