import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { sleep } from "../../src/runtime/clock.ts";
import { freePort, NatsServer } from "./nats-server.ts";

/** Three servers that hold every stream three times. */
export class NatsCluster implements AsyncDisposable {
  readonly servers: readonly NatsServer[];

  private constructor(servers: readonly NatsServer[]) {
    this.servers = servers;
  }

  static async start(): Promise<NatsCluster> {
    const ports = await Promise.all([freePort(), freePort(), freePort()]);
    const routes = ports.map((port) => `nats-route://127.0.0.1:${port}`).join(", ");
    const starting = ports.map((port, index) => {
      const cluster = `cluster { name: tide, listen: "127.0.0.1:${port}", routes: [${routes}] }`;
      return NatsServer.start({ config: `server_name: n${index}\n${cluster}` });
    });
    const cluster = new NatsCluster(await Promise.all(starting));
    await cluster.ready();
    return cluster;
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

  /** The server that leads the stream. */
  async leaderOf(stream: string): Promise<NatsServer | undefined> {
    const nats = await connect({ servers: this.addresses, timeout: 2_000 });
    try {
      const { cluster } = await (await jetstreamManager(nats)).streams.info(stream);
      return this.servers.find((_, index) => `n${index}` === cluster?.leader);
    } finally {
      await nats.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.servers) await server[Symbol.asyncDispose]();
  }
}
