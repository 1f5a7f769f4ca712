import { afterAll, beforeAll } from "vitest";

import { NatsServer } from "./nats-server.ts";

/** One server for all tests of a file, from the first to the last of them. */
export function natsOfFile(): Pick<NatsServer, "address"> {
  let server: NatsServer | undefined;
  beforeAll(async () => void (server = await NatsServer.start()));
  afterAll(async () => server?.[Symbol.asyncDispose]());
  return {
    get address() {
      if (!server) throw new Error("the server starts before the first test");
      return server.address;
    },
  };
}
