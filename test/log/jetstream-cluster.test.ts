import path from "node:path";
import { expect, test } from "vitest";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { DEFAULT_BANK } from "../support/apps/bank.ts";
import { createBank, startWriter } from "../support/apps/bank-programs.ts";
import { type Program, reportOf } from "../support/apps/program.ts";
import { bankDigest, Recorder } from "../support/apps/recorder.ts";
import type { WriterReport } from "../support/apps/writer.ts";
import { Deployment } from "../support/deployment.ts";
import { NatsCluster } from "../support/nats-cluster.ts";
import { natsConfig } from "../support/nats-server.ts";
import type { RunningTidemark } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

const STREAM = "TIDEMARK_e2e";

/** Waits until `more` further commits are on the standby: the agents work, whatever the cluster does. */
async function appliedMore(running: Running, more: number): Promise<void> {
  const { cluster, deployment, app, agents } = running;
  const applied = (): number => bankDigest(deployment.standbyDatabase).seq;
  const before = applied();
  try {
    await waitFor("more commits on the standby", () => applied() >= before + more, { timeoutMs: 60_000 });
  } catch (error) {
    const said = [app.errors, ...agents.map(({ output }) => output.stderr.slice(-3_000))].join("\n--\n");
    const state = JSON.stringify(await deployment.status().catch(String));
    const heads = `the servers have ${(await cluster.heads(STREAM)).join(", ")} messages`;
    const counts = `${before} applied before it, ${applied()} now; the application ${app.running ? "runs" : "has ended"}`;
    throw new Error(`${counts}\n${heads}\n${said}\n--\n${state}`, { cause: error });
  }
}

interface Running {
  readonly cluster: NatsCluster;
  readonly deployment: Deployment;
  readonly app: Program;
  readonly agents: readonly RunningTidemark[];
}

test("three servers under load: the leader is killed, led over, each restarted; nothing is lost, doubled or noticed by the application", async () => {
  await using cluster = await NatsCluster.start();
  const nats = cluster.addresses.join(",");
  await using deployment = new Deployment({ nats, config: "nats: { replicas: 3 }" });
  await createBank(deployment.database, DEFAULT_BANK);
  const journal = path.join(deployment.directory, "writer.journal");
  const options = { database: deployment.database, journal, writer: 0, bank: DEFAULT_BANK };
  await using app = await startWriter({ ...options, rate: 100, burst: 4, truncateEvery: 500 });
  const running = {
    cluster,
    deployment,
    app,
    agents: [await deployment.start("capture"), await deployment.start("replica")],
  };
  const whole = (): Promise<unknown> => waitFor("a whole cluster", () => cluster.isWhole(STREAM));
  await using log = await openJetStreamLog({ config: natsConfig(nats, { replicas: 3 }), set: "e2e", mode: "read" });
  const sound = {
    survivesPowerLoss: true,
    text: expect.stringMatching(/^3 replicas in files: .*majority/),
    concerns: [],
  };
  // Under load a server falls behind for a moment now and then.
  const withoutConcern = (): Promise<unknown> =>
    waitFor("no warning", async () => {
      const found = await log.durability();
      return found.concerns.length === 0 && found;
    });
  await whole();
  expect(await withoutConcern()).toEqual(sound);

  const leader = await cluster.leaderOf(STREAM);
  await leader?.kill("SIGKILL");
  await appliedMore(running, 100);
  const concerns = await waitFor("a warning", async () => {
    const found = await log.durability();
    return found.concerns.length > 0 && found.concerns;
  });
  expect(concerns).toMatchObject([
    { code: "LOG_CLUSTER", text: expect.stringMatching(/3 replicas, n\d is away or behind/) },
  ]);
  await leader?.start();
  await whole();
  await withoutConcern();

  for (let round = 0; round < 3; round += 1) {
    await cluster.stepDown(STREAM);
    await appliedMore(running, 50);
  }
  for (const server of cluster.servers) {
    await server.kill("SIGTERM");
    await server.start();
    await whole();
    await appliedMore(running, 20);
  }

  const report = await reportOf<WriterReport>(app);
  expect(report).toMatchObject({ busyErrors: 0 });
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.repairs()).toBe(0);
  const { seq, digest } = bankDigest(deployment.standbyDatabase);
  const recorder = new Recorder(DEFAULT_BANK, [journal]);
  expect({ seq, digest }).toEqual({ seq: recorder.lastSeq, digest: recorder.digestAt(recorder.lastSeq) });
  process.stdout.write(`writer ${JSON.stringify(report)}\n`);
}, 180_000);

test("capture starts while one of three servers is not in the cluster yet: it waits until the stream finds its place", async () => {
  await using cluster = await NatsCluster.start(2);
  await using deployment = new Deployment({ nats: cluster.addresses.join(","), config: "nats: { replicas: 3 }" });
  await createBank(deployment.database, DEFAULT_BANK);
  const agent = deployment.launch("capture");
  await waitFor("what it waits for", () => agent.output.stderr.includes("no suitable peers"));
  await cluster.join();
  await agent.waitReady();
  expect((await deployment.commits()).map(({ cause }) => cause)).toEqual(["copy"]);
}, 120_000);
