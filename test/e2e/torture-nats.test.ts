import { expect, test } from "vitest";

import { Deployment } from "../support/deployment.ts";
import { NatsServer } from "../support/nats-server.ts";
import { Random } from "../support/random.ts";
import { Torture } from "../support/torture.ts";

test("three writers, two readers, agents and server killed again and again: NATS", { timeout: 240_000 }, async () => {
  const random = new Random("torture-nats");
  await using server = await NatsServer.start();
  await using deployment = new Deployment({ nats: server.address });
  const torture = new Torture(deployment, random);
  try {
    await torture.begin(["capture", "replica"]);
    for (let round = 0; round < 4; round += 1) {
      await torture.kill("capture");
      await torture.kill("replica");
      if (round === 1) {
        await server.kill();
        await server.start();
      }
    }
    expect(await torture.finish()).toBe(50);
  } finally {
    await torture.end();
  }
});
