import { jetstreamManager, type StreamConfig, type StreamInfo } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { expect, test } from "vitest";
import type { NatsLogConfig } from "../../src/config/config.ts";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { CliScene } from "../support/cli-scene.ts";
import { bulk, LogScene, openWriter } from "../support/log-scene.ts";
import { codeOf } from "../support/log-records.ts";
import { natsConfig, NatsServer } from "../support/nats-server.ts";
import { rewriting } from "../support/nats-wire.ts";

const MiB = 1024 * 1024;
/** As capture makes it. */
const OURS = {
  name: "TIDEMARK_app",
  subjects: ["tidemark.app"],
  discard: "new",
  deny_delete: true,
} satisfies Partial<StreamConfig>;

async function addStream(server: NatsServer, config: Partial<StreamConfig> = {}): Promise<void> {
  const nats = await connect({ servers: [server.address] });
  await (await jetstreamManager(nats)).streams.add({ ...OURS, ...config });
  await nats.close();
}

async function streamOf(server: NatsServer): Promise<StreamInfo> {
  const nats = await connect({ servers: [server.address] });
  const info = await (await jetstreamManager(nats)).streams.info("TIDEMARK_app");
  await nats.close();
  return info;
}

/** Leaves out what the configuration may leave out. */
function unlimited(server: NatsServer): NatsLogConfig {
  return natsConfig(server.address, { replicas: undefined, maxBytes: undefined });
}

test("one replica: told as it is, and nothing else to say of a stream of ours", async () => {
  await using server = await NatsServer.start();
  await using log = await openJetStreamLog({ config: natsConfig(server.address), set: "app", mode: "write" });
  expect(await log.durability()).toEqual({
    survivesPowerLoss: false,
    // 2.9 has no sync_interval: a constant of its source.
    text: expect.stringMatching(/^1 replica in files: .*not an fsync.*nats-server 2\.9\.\d+ syncs every minute/),
    concerns: [],
  });
  expect(log.location).toBe(`nats://${server.address} stream TIDEMARK_app`);
});

test("a stream that an administrator made keeps its limits, and gets deny_delete; check tells before", async () => {
  await using server = await NatsServer.start();
  await using scene = new CliScene();
  await addStream(server, { max_bytes: 8 * MiB, deny_delete: false });
  scene.write("tidemark.yml", `set: app\nstandby: standby\nlog: nats://${server.address}\nnats: { replicas: 3 }\n`);
  const { code, stdout } = await scene.run(["check", "--json"]);
  expect(code).toBe(0);
  const { findings } = JSON.parse(stdout) as { findings: { code: string; message: string; hint: string }[] };
  const told = (wanted: string): string => findings.find((one) => one.code === wanted)?.message ?? "";
  expect(told("LOG_DURABILITY")).toContain("syncs every minute");
  expect(told("LOG_DELETABLE")).toContain("deny_delete is off");
  expect(told("LOG_REPLICAS")).toContain("has 1 replica, nats.replicas asks for 3");

  await using log = await openJetStreamLog({ config: unlimited(server), set: "app", mode: "write" });
  expect((await streamOf(server)).config).toMatchObject({ max_bytes: 8 * MiB, deny_delete: true, num_replicas: 1 });
  expect((await log.durability()).concerns).toEqual([]);
  const writer = await openWriter(log);
  for (let index = 0; index < 17; index += 1) writer.append([bulk(index, 400_000)]);
  await writer.flush();
  expect((await log.durability()).concerns).toMatchObject([
    { code: "LOG_NEARLY_FULL", text: expect.stringMatching(/holds 6\.\d MiB of at most 8\.0 MiB/) },
  ]);
});

test("streams on which a record would not last are refused", async () => {
  const others: readonly (readonly [Partial<StreamConfig>, string])[] = [
    [{ storage: "memory" }, "kept in memory"],
    [{ discard: "old" }, "discards old messages"],
    [{ max_msgs_per_subject: 100 }, "limited by messages of a subject"],
    [{ no_ack: true }, "acknowledges nothing"],
    [{ max_age: 60_000_000_000, duplicate_window: 1_000_000_000 }, "drops messages by age"],
  ];
  await using server = await NatsServer.start();
  const nats = await connect({ servers: [server.address] });
  const { streams } = await jetstreamManager(nats);
  for (const [config, why] of others) {
    await streams.add({ ...OURS, ...config });
    for (const mode of ["write", "read"] as const) {
      const opening = openJetStreamLog({ config: unlimited(server), set: "app", mode });
      await expect(opening).rejects.toMatchObject({ code: "LOG_FOREIGN", message: expect.stringContaining(why) });
    }
    await streams.delete("TIDEMARK_app");
  }
  await nats.close();
});

test("NATS 2.12 and newer: a stream that acknowledges before it writes, and a sync_interval that nobody is told", async () => {
  await using scene = await LogScene.start();
  scene.proxy.rewriteAnswers = rewriting(
    (message) => {
      if (!message.payload.includes("stream_info_response")) return message;
      const info = JSON.parse(message.payload.toString()) as StreamInfo;
      const config = { ...info.config, persist_mode: "async", allow_direct: true, metadata: { "_nats.ver": "2.14.5" } };
      return { ...message, payload: Buffer.from(JSON.stringify({ ...info, config, ts: info.created })) };
    },
    (greeting) => greeting.replace(/"version":"[^"]*"/, '"version":"2.14.5"'),
  );
  await (await scene.openDirect("write"))[Symbol.asyncDispose]();
  const log = await scene.open("write");
  expect(await codeOf(openWriter(log))).toBe("none");
  expect(await log.durability()).toMatchObject({
    survivesPowerLoss: false,
    text: expect.stringContaining("nats-server 2.14.5 syncs every 2 minutes unless its sync_interval says otherwise"),
    concerns: [{ code: "LOG_ASYNC", text: expect.stringContaining("in the server's memory only") }],
  });
});
