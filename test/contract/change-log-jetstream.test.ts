import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe } from "vitest";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { natsConfig, NatsServer } from "../support/nats-server.ts";
import { changeLogContract, type LogPlace } from "./change-log.ts";

async function makePlace(): Promise<LogPlace> {
  const server = await NatsServer.start();
  let saved = "";
  const offline = async (work: () => void): Promise<void> => {
    await server.kill("SIGTERM");
    work();
    await server.start();
  };
  return {
    open: (mode, set = "app", begin) =>
      openJetStreamLog({
        config: natsConfig(server.address),
        set,
        mode,
        begin,
        idleHeartbeatMs: 500,
        ackTimeoutMs: 1_000,
      }),
    save: () => offline(() => void (saved = server.saveStore())),
    restore: () => offline(() => server.restoreStore(saved)),
    async remove() {
      const nats = await connect({ servers: [server.address] });
      await (await jetstreamManager(nats)).streams.delete("TIDEMARK_app");
      await nats.close();
    },
    stall: () => server.pause(),
    unstall: () => server.resume(),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

describe("JetStream log", () => {
  changeLogContract(makePlace);
});
