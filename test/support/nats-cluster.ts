import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { sleep } from "../../src/runtime/clock.ts";
import { freePort, NatsServer } from "./nats-server.ts";
import { waitFor } from "./wait.ts";

/** Three servers, which can hold every stream three times. */
export class NatsCluster implements AsyncDisposable {
  readonly servers: NatsServer[] = [];
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
    return NatsServer.start({ config: `server_name: n${index}\n${cluster}` });
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

  /** Whether the stream has a leader and two copies that are there and up to date. */
  async isWhole(stream: string): Promise<boolean> {
    const { cluster } = await this.#ask((manager) => manager.streams.info(stream));
    const current = cluster?.replicas?.filter((replica) => replica.current && !replica.offline) ?? [];
    return cluster?.leader !== undefined && current.length === this.servers.length - 1;
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
