import { expect, test } from "vitest";
import { offset } from "../../src/event/positions.ts";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { readEvents } from "../../src/log/log-reader.ts";
import { sleep } from "../../src/runtime/clock.ts";
import { until } from "../support/log-records.ts";
import { mark, markNames, openWriter } from "../support/log-scene.ts";
import { NatsCluster } from "../support/nats-cluster.ts";
import { natsConfig } from "../support/nats-server.ts";

test("three replicas: the leader is killed again and again, the log is exact and the reader sees all of it", async () => {
  await using cluster = await NatsCluster.start();
  const config = natsConfig("", { servers: cluster.addresses, replicas: 3 });
  const timing = { ackTimeoutMs: 1_000, idleHeartbeatMs: 500 };
  await using log = await openJetStreamLog({ config, set: "app", mode: "write", ...timing });
  await using other = await openJetStreamLog({ config, set: "app", mode: "read", ...timing });
  expect(await log.durability()).toMatchObject({
    survivesPowerLoss: true,
    text: expect.stringContaining("3 replicas"),
  });
  const writer = await openWriter(log);
  const stop = new AbortController();
  const seen: number[] = [];
  const following = (async () => {
    for await (const batch of readEvents(other, { after: offset(0), signal: stop.signal, follow: true })) {
      seen.push(...batch.map((event) => event.offset));
    }
  })();
  let sent = 0;
  const send = (count: number): void => {
    for (let index = 0; index < count; index += 1) writer.append([mark(`mark-${sent++}`)]);
  };
  for (let round = 0; round < 3; round += 1) {
    const leader = await cluster.leaderOf("TIDEMARK_app");
    send(200);
    await sleep(20);
    await leader?.kill("SIGKILL");
    send(200);
    expect(await writer.flush()).toBe(sent + 2);
    await leader?.start();
    await cluster.ready();
  }
  await until(() => seen.length === sent + 2);
  stop.abort();
  await following;
  expect(seen).toEqual(seen.map((_, index) => index + 1));
  expect(await markNames(other)).toEqual(Array.from({ length: sent }, (_, index) => `mark-${index}`));
}, 180_000);
