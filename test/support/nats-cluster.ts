import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { sleep } from "../../src/runtime/clock.ts";
import { freePort, NatsServer } from "./nats-server.ts";
import { waitFor } from "./wait.ts";

/** Three servers, which can hold every stream three times. */
export class NatsCluster implements AsyncDisposable {
  readonly servers: NatsServer[] = [];
  /** Of each server, where it tells of itself. */
  readonly #monitors: number[] = [];
  readonly #routePorts: readonly number[];
  readonly #advertise: boolean;

  private constructor(routePorts: readonly number[], advertise: boolean) {
    this.#routePorts = routePorts;
    this.#advertise = advertise;
  }

  /** Without `advertise` clients learn no other addresses than those that they were given. */
  static async start(servers = 3, { advertise = true } = {}): Promise<NatsCluster> {
    const ports = await Promise.all(Array.from({ length: servers }, freePort));
    const cluster = new NatsCluster(ports, advertise);
    cluster.servers.push(...(await Promise.all(ports.map(async (port, index) => cluster.#startServer(port, index)))));
    await cluster.ready();
    return cluster;
  }

  /** One server more. */
  async join(): Promise<void> {
    this.servers.push(await this.#startServer(await freePort(), this.servers.length));
  }

  async #startServer(port: number, index: number): Promise<NatsServer> {
    const routes = this.#routePorts.map((other) => `nats-route://127.0.0.1:${other}`).join(", ");
    const where = `listen: "127.0.0.1:${port}", routes: [${routes}]`;
    const cluster = `cluster { name: tide, ${where}, no_advertise: ${!this.#advertise} }`;
    const monitor = (this.#monitors[index] ??= await freePort());
    return NatsServer.start({ config: `server_name: n${index}\nhttp: "127.0.0.1:${monitor}"\n${cluster}` });
  }

  get addresses(): string[] {
    return this.servers.map((server) => server.address);
  }

  /** Resolves when the cluster serves JetStream requests. */
  async ready(): Promise<void> {
    const deadline = performance.now() + 40_000;
    for (;;) {
      try {
        const nats = await connect({ servers: this.addresses, timeout: 2_000 });
        try {
          const manager = await jetstreamManager(nats, { timeout: 2_000 });
          await manager.getAccountInfo();
          return;
        } finally {
          await nats.close();
        }
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await sleep(200);
      }
    }
  }

  /** The server that leads the stream; undefined while there is none. */
  async leaderOf(stream: string): Promise<NatsServer | undefined> {
    const { cluster } = await this.#ask((manager) => manager.streams.info(stream));
    return this.servers.find((_, index) => `n${index}` === cluster?.leader);
  }

  /**
   * Whether the stream has a leader and two copies that are there and up to date. The leader calls one `current` that still
   * lacks messages, and it may be elected (nats-server 2.9.10): in a run of the suite the new leader told of 1,059 messages,
   * for at least 13 s, after 1,850 had been acknowledged. So each server is asked for its own.
   */
  async isWhole(stream: string): Promise<boolean> {
    const { cluster, state } = await this.#ask((manager) => manager.streams.info(stream));
    const current = cluster?.replicas?.filter((replica) => replica.current && !replica.offline) ?? [];
    if (cluster?.leader === undefined || current.length !== this.servers.length - 1) return false;
    const heads = await this.heads(stream);
    return heads.every((head) => head !== undefined && head >= state.last_seq);
  }

  /** Newest message of the stream that each server has itself; undefined: it does not answer, or has no such stream. */
  async heads(stream: string): Promise<(number | undefined)[]> {
    return Promise.all(this.#monitors.map(async (port) => headAt(port, stream).catch(() => undefined)));
  }

  /** Another server becomes the stream's leader. */
  async stepDown(stream: string): Promise<void> {
    const before = await this.leaderOf(stream);
    await this.#ask((_, nats) => nats.request(`$JS.API.STREAM.LEADER.STEPDOWN.${stream}`));
    await waitFor("another leader", async () => {
      const leader = await this.leaderOf(stream);
      return leader !== undefined && leader !== before;
    });
  }

  async #ask<T>(question: (manager: JetStreamManager, nats: NatsConnection) => Promise<T>): Promise<T> {
    const nats = await connect({ servers: this.addresses, timeout: 2_000 });
    try {
      return await question(await jetstreamManager(nats, { checkAPI: false, timeout: 2_000 }), nats);
    } finally {
      await nats.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.servers) await server[Symbol.asyncDispose]();
  }
}

interface JetStreamState {
  readonly account_details?: readonly {
    readonly stream_detail?: readonly { readonly name: string; readonly state: { readonly last_seq: number } }[];
  }[];
}

async function headAt(port: number, stream: string): Promise<number | undefined> {
  const answer = await fetch(`http://127.0.0.1:${port}/jsz?streams=true`, { signal: AbortSignal.timeout(2_000) });
  const { account_details: accounts = [] } = (await answer.json()) as JetStreamState;
  const streams = accounts.flatMap((account) => account.stream_detail ?? []);
  return streams.find(({ name }) => name === stream)?.state.last_seq;
}
