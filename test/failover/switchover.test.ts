import { afterAll, beforeAll, expect, test, vi } from "vitest";

import { readFence } from "../../src/failover/fence-record.ts";
import { readOffer } from "../../src/failover/offer-record.ts";
import { FailoverScene, fenceOf, refused } from "../support/failover-scene.ts";
import { NatsServer } from "../support/nats-server.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000, maxConcurrency: 3 });

let server: NatsServer;
beforeAll(async () => {
  server = await NatsServer.start();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

test.concurrent("a busy primary hands over: nothing is lost, it is fenced and stays locked, the standby captures", async () => {
  await using scene = new FailoverScene(server.address);
  const { host, app } = await scene.primary();
  const [standby, other] = [scene.host(), scene.host()];
  await host.start("capture");
  const agents = [await standby.start("replica"), await other.start("replica")];
  expect(agents).toHaveLength(2);
  await app.run("PRAGMA busy_timeout=0");
  let written = 0;
  const busy = (async () => {
    for (;;) written = Number(await app.value("INSERT INTO t (body) VALUES (randomblob(200)) RETURNING id"));
  })();
  busy.catch(() => undefined);
  const before = await host.answer("switchover", "--dry-run");
  console.log(JSON.stringify(before));
  const report = await host.answer("switchover");
  console.log(JSON.stringify(report));
  await expect(busy).rejects.toThrow("locked");
  console.log(readFence(host.state), readOffer(host.state), await fenceOf(host), written);
  await refused(app);
});
