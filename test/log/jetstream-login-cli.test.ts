import fs from "node:fs";
import { expect, test, vi } from "vitest";
import { CliScene, type Refusal } from "../support/cli-scene.ts";
import { NatsOperator } from "../support/nats-identity.ts";
import { NatsServer } from "../support/nats-server.ts";
import { Authority, serverTls } from "../support/nats-tls.ts";

// Every step is a process of its own; many at once are slow on a busy machine.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const SET = ["set: app", "databases: [app.db]", "standby: standby", "state: state"];
/** What an attempt to log in may take: the client library's patience, and a process on a busy machine. */
const SOON = { timeoutMs: 40_000 };

/** With `log` and `nats` as given, what each command says that needs the log. `check` says it as a finding. */
async function refusals(scene: CliScene, log: string, nats: string): Promise<Refusal[]> {
  scene.write("tidemark.yml", [...SET, `log: ${log}`, `nats: ${nats}`].join("\n"));
  const commands = ["log", "capture", "replica"].map((command) => scene.refused([command], SOON));
  return Promise.all([...commands, checkRefusal(scene)]);
}

async function checkRefusal(scene: CliScene): Promise<Refusal> {
  const { code: exit, stdout } = await scene.run(["check", "--json"], SOON);
  const { findings } = JSON.parse(stdout) as { findings: (Refusal & { severity: string })[] };
  const found = findings.find(({ severity }) => severity === "fail");
  if (!found) throw new Error(`nothing failed: ${stdout}`);
  return { exit, code: found.code, message: found.message, hint: found.hint };
}

function expectAll(told: readonly Refusal[], expected: { exit: number; code: string; message: RegExp }): void {
  for (const one of told) {
    expect(one).toMatchObject({ exit: expected.exit, code: expected.code });
    expect(one.message).toMatch(expected.message);
    expect(one.hint).not.toBe("");
    expect(`${one.message}${one.hint}`).not.toMatch(/SU[A-Z2-7]{20}|eyJ0|geheim/);
  }
}

test("credentials file, TLS and client certificate, each role with its own: every command works, every failure is named", async () => {
  await using scene = new CliScene();
  scene.database();
  const authority = new Authority(scene.directory);
  const certificate = authority.issue("server", { altName: "IP:127.0.0.1" });
  const { cert, key } = authority.issue("client", { altName: "DNS:client" });
  const operator = new NatsOperator();
  await using server = await NatsServer.start({
    config: `${operator.serverConfig()}\n${serverTls(authority, certificate, "verify: true")}`,
  });
  const log = `tls://${server.address}`;
  const tls = `tls: { ca: ca.pem, cert: ${cert}, key: ${key} }`;
  scene.write("app.creds", operator.credentials("app"));
  scene.write("old.creds", operator.credentials("old", { expires: 1_700_000_000 }));
  scene.write("letter.creds", "Dear administrator,\n");

  scene.write("tidemark.yml", [...SET, `log: ${log}`, `nats: { credentials: app.creds, ${tls} }`].join("\n"));
  const capture = scene.start(["capture"]);
  await capture.waitReady();
  const replica = scene.start(["replica"]);
  await replica.waitReady();
  expect(await scene.ask(["sync", "--applied"])).toMatchObject({ ok: true });
  expect((await scene.run(["log", "--json"])).code).toBe(0);
  expect(await scene.ask(["check"])).toMatchObject({ ok: true });
  expect((await Promise.all([capture.stop(), replica.stop()])).map(({ code }) => code)).toEqual([0, 0]);

  const expired = await refusals(scene, log, `{ credentials: old.creds, ${tls} }`);
  expectAll(expired, { exit: 3, code: "LOG_DENIED", message: /credentials in \S*old\.creds \(valid until 2023/ });
  const letter = await refusals(scene, log, `{ credentials: letter.creds, ${tls} }`);
  expectAll(letter, { exit: 2, code: "CONFIG", message: /letter\.creds is no credentials file/ });
  const uncertified = await refusals(scene, log, "{ credentials: app.creds, tls: { ca: ca.pem } }");
  expectAll(uncertified, { exit: 3, code: "LOG_DENIED", message: /TLS: the server refuses this client/ });
  const untrusting = await refusals(scene, log, "{ credentials: app.creds }");
  expectAll(untrusting, { exit: 3, code: "LOG_DENIED", message: /TLS: unable to verify/ });
});

test("a credentials file that this user may not read, or that is not there", async () => {
  await using scene = new CliScene();
  scene.database();
  fs.chmodSync(scene.write("closed.creds", new NatsOperator().credentials("app")), 0);
  for (const name of ["closed.creds", "none.creds"]) {
    scene.write("tidemark.yml", [...SET, "log: nats://127.0.0.1:1", `nats: { credentials: ${name} }`].join("\n"));
    const told = await scene.refused(["log"], { unprivileged: true });
    expectAll([told], { exit: 2, code: "CONFIG", message: new RegExp(`${name} cannot be read \\((EACCES|ENOENT)\\)`) });
  }
});

test("an agent that is refused ends and says so; TLS to a plain server ends every command", async () => {
  await using server = await NatsServer.start({ config: 'authorization { user: "app", password: "right" }' });
  await using scene = new CliScene();
  scene.database();
  const plain = await refusals(scene, `tls://app:right@${server.address}`, "{}");
  expectAll(plain, { exit: 3, code: "LOG_DENIED", message: /TLS: the server speaks no TLS/ });
  const wrong = await refusals(scene, `nats://app:geheim@${server.address}`, "{}");
  expectAll(wrong, { exit: 3, code: "LOG_DENIED", message: /refuses the user "app" with its password/ });
});
