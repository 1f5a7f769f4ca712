import fs from "node:fs";
import path from "node:path";

import { expect, test, vi } from "vitest";

import { readFence } from "../../src/failover/fence-record.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { FailoverScene, fenceOf, linesOf, refused } from "../support/failover-scene.ts";
import { natsOfFile } from "../support/nats-of-file.ts";
import { freePort, NatsServer } from "../support/nats-server.ts";
import { waitFor } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

// Another writer took the log over: the one before it learns so from its next append, and keeps its application from writing.

const server = natsOfFile();

test.concurrent("lock: writes fail and reads go on, also after the agent was killed, and the log need not be there", async () => {
  await using server2 = await NatsServer.start();
  await using scene = new FailoverScene(server2.address);
  const port = await freePort();
  const facts = path.join(fs.mkdtempSync(path.join(scene.host().directory, "hook-")), "facts");
  const { host, app } = await scene.primary(
    [
      `http: { listen: "127.0.0.1:${port}" }`,
      `hooks: { onFence: ['echo "$TIDEMARK_SET $TIDEMARK_EPOCH $TIDEMARK_REASON" >> ${facts}'] }`,
    ].join("\n"),
  );
  const agent = await host.start("capture");
  await scene.takeOver();
  await refused(app);
  for (const statement of ["VACUUM", "DROP TABLE t", "PRAGMA journal_mode=DELETE"])
    await expect(app.run(statement)).rejects.toThrow("locked");
  expect(Number(await app.value("SELECT count(*) FROM t"))).toBeGreaterThan(0);

  expect(await fenceOf(host)).toMatchObject({ final: true, locked: 1, code: 5 });
  expect(readFence(host.state)).toMatchObject({ set: scene.set, epoch: 1 });
  const asked = async (place: string): Promise<number> => (await fetch(`http://127.0.0.1:${port}${place}`)).status;
  expect([await asked("/readyz"), await asked("/primary"), await asked("/healthz")]).toEqual([503, 503, 200]);
  expect(await host.command("sync")).toMatchObject({ code: 5 });
  await waitFor("the hook", () => linesOf(facts).some((line) => line.startsWith(`${scene.set} 1 nats://`)));

  await agent.kill9();
  await waitFor("the lock to end with its process", async () =>
    app.run("INSERT INTO t (body) VALUES ('while no agent runs')").then(() => true),
  );
  await server2.kill();
  const again = host.launch("capture");
  await refused(app);
  expect(await fenceOf(host)).toMatchObject({ final: true, locked: 1 });
  expect(await again.stop()).toMatchObject({ code: 5 });
});

test.concurrent("hook and none: the agent ends with 5, at every start, and nothing is captured", async () => {
  await using scene = new FailoverScene(server.address);
  const called = path.join(scene.host().directory, "called");
  const { host, app } = await scene.primary(`fence: hook\nhooks: { onFence: [exit 3, echo x >> ${called}] }`);
  const agent = await host.start("capture");
  const head = await scene.takeOver();
  expect(await agent.exited).toMatchObject({ code: 5 });
  expect(await host.launch("capture").exited).toMatchObject({ code: 5 });
  expect(linesOf(called)).toEqual(["x", "x"]);
  await app.run("INSERT INTO t (body) VALUES ('not locked')");
  fs.appendFileSync(host.configFile, "\nfence: none\n");
  fs.writeFileSync(host.configFile, fs.readFileSync(host.configFile, "utf8").replace("fence: hook\n", ""));
  expect(await host.launch("capture").exited).toMatchObject({ code: 5 });
  expect((await host.events()).at(-1)?.offset).toBe(head);
});

test.concurrent("fence.after: with the log away the application cannot write, with the log back it can, and nothing is lost", async () => {
  await using server3 = await NatsServer.start();
  await using scene = new FailoverScene(server3.address);
  const { host, app } = await scene.primary("fence: { after: 700ms }");
  await host.start("capture");
  await host.start("replica");
  await app.run("INSERT INTO t (body) VALUES ('before')");
  await server3.kill();
  await refused(app);
  expect(await fenceOf(host)).toMatchObject({ final: false, locked: 1, code: 5 });
  expect(readFence(host.state)).toBeUndefined();
  await server3.start();
  await app.run("PRAGMA busy_timeout=20000");
  await app.run("INSERT INTO t (body) VALUES ('the log is back')");
  expect(await host.difference()).toBeUndefined();
  expect(await fenceOf(host)).toBeUndefined();
});

for (const point of pointsOf("fence")) {
  test.concurrent(`${point}: killed there, the next start is fenced without a look at the log`, async () => {
    await using server4 = await NatsServer.start();
    await using failover = new FailoverScene(server4.address);
    await using scene = new CrashScene({ nats: server4.address, set: failover.set, config: "heartbeat: 500ms" });
    await scene.createDatabase();
    await scene.launch("capture").waitReady();
    scene.order(point);
    await failover.takeOver();
    await scene.diesOf(point, async () => new Promise((resolve) => void setTimeout(resolve, 50)));
    await server4.kill();
    scene.launch("capture");
    await scene.app.run("PRAGMA busy_timeout=0");
    await waitFor("the lock", async () =>
      scene.insert(1, 10).then(
        () => false,
        (error: unknown) => String(error).includes("locked"),
      ),
    );
    await scene.kill();
  });
}
