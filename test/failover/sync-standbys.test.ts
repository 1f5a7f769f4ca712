import fs from "node:fs";
import path from "node:path";

import { expect, test, vi } from "vitest";

import { standbyState } from "../../src/config/load-config.ts";
import { askAgent } from "../../src/observe/control-client.ts";
import { FailoverScene } from "../support/failover-scene.ts";
import { freePort, NatsServer } from "../support/nats-server.ts";
import { lastJson } from "../support/tidemark-cli.ts";

vi.setConfig({ testTimeout: 120_000 });

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

test("an application asks for N standbys: one that stands still, is promoted away or was never there does not count", async () => {
  await using server = await NatsServer.start();
  await using scene = new FailoverScene(server.address);
  const [port, other] = [await freePort(), await freePort()];
  const listen = (where: number): string => `http: { listen: "127.0.0.1:${where}" }`;
  const { host, app } = await scene.primary(listen(port), ["{ path: app/uploads, name: uploads }"]);
  fs.mkdirSync(host.pathOf("uploads"));
  const standbys = [scene.host(listen(other)), scene.host()] as const;
  await host.start("capture");
  await standbys[0].start("replica");
  const second = await standbys[1].start("replica");
  const ask = async (query: string, where = port, method = "POST"): Promise<Answer> => {
    const response = await fetch(`http://127.0.0.1:${where}/sync${query}`, { method });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  const idsOf = ({ body }: Answer): unknown[] => (body["standbys"] as { id: string }[]).map(({ id }) => id);

  fs.writeFileSync(path.join(host.pathOf("uploads"), "invoice"), "paid");
  await app.run("INSERT INTO t (body) VALUES ('invoice')");
  const both = await ask("?applied=2&timeout=20s");
  expect(both).toMatchObject({ status: 200, body: { ok: true, applied: true } });
  for (const standby of standbys) {
    expect(fs.readFileSync(path.join(standby.standbyOf("uploads"), "invoice"), "utf8")).toBe("paid");
    const rows = scene.open(standby.standbyDatabase);
    expect(await rows.value("SELECT group_concat(body) FROM t")).toBe("first,invoice");
  }
  const [one, two] = (await host.status()).replicas.toSorted((left) => (left.standby === standbys[0].standby ? -1 : 1));
  expect(new Set(idsOf(both))).toEqual(new Set([one?.id, two?.id]));
  expect(await ask("")).toMatchObject({ status: 200, body: { ok: true, applied: false } });

  second.child.kill("SIGSTOP");
  await app.run("INSERT INTO t (body) VALUES ('again')");
  expect(idsOf(await ask("?applied"))).toEqual([one?.id]);
  const late = await ask("?applied=2&timeout=1500ms");
  expect(late).toMatchObject({ status: 504, body: { ok: false, code: "TIMEOUT" } });
  expect(late.body["message"]).toMatch(new RegExp(`^1 of 2 standbys .*${two?.id}\\) had applied offset`));
  const { code, stderr } = await host.command("sync", "--applied", "3", "--timeout", "4s");
  expect([code, lastJson(stderr)["code"]]).toEqual([1, "TIMEOUT"]);
  expect(stderr).toMatch(/^still waiting: 1 of 3 standbys .*only 2 are known/m);
  second.child.kill("SIGCONT");
  expect(await host.answer("sync", "--applied", "2")).toMatchObject({ ok: true, applied: true });

  expect([(await ask("?applied=0")).status, (await ask("?timeout=soon")).status]).toEqual([400, 400]);
  expect((await ask("", port, "GET")).status).toBe(405);
  expect(await ask("?applied=1", other)).toMatchObject({ status: 503, body: { code: "AGENT_NOT_RUNNING" } });

  const request = { to: one?.id, timeoutMs: 20_000 };
  await askAgent(host.state, { method: "POST", path: "/switchover", body: request, timeoutMs: 60_000 });
  expect(await ask("?applied=1")).toMatchObject({ status: 503, body: { code: "FENCED" } });
  const served = scene.open(standbys[0].standbyDatabase);
  await served.run("INSERT INTO t (body) VALUES ('on the new primary')");
  expect(idsOf(await ask("?applied=1", other))).toEqual([two?.id]);
  expect((await ask("?applied=2&timeout=300ms", other)).status).toBe(504);
  const report = { method: "GET", path: "/status", timeoutMs: 5000 } as const;
  expect(await askAgent(standbyState(standbys[0].standby), report)).toMatchObject({ epoch: 2 });
});
