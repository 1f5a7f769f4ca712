import { nkeys } from "@nats-io/transport-node";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { NatsLogConfig } from "../../src/config/config.ts";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { sleep, systemClock } from "../../src/runtime/clock.ts";
import { TidemarkError } from "../../src/runtime/errors.ts";
import { mark, openWriter } from "../support/log-scene.ts";
import { until } from "../support/log-records.ts";
import { NatsOperator } from "../support/nats-identity.ts";
import { natsConfig, NatsServer } from "../support/nats-server.ts";
import { Authority, type Certificate, serverTls } from "../support/nats-tls.ts";

let directory = "";
let authority: Authority;
let stranger: Authority;
let certificate: Certificate;

beforeAll(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-login-"));
  authority = new Authority(directory);
  stranger = new Authority(directory, "stranger");
  certificate = authority.issue("server", { altName: "IP:127.0.0.1" });
});

afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

function write(name: string, text: string): string {
  const file = path.join(directory, name);
  fs.writeFileSync(file, text);
  return file;
}

/** "open", or the code and what was said. Secrets are named, so that each failure is searched for them. */
async function outcome(address: string, more: Partial<NatsLogConfig> = {}): Promise<string> {
  try {
    const log = await openJetStreamLog({ config: natsConfig(address, more), set: "app", mode: "write" });
    await log[Symbol.asyncDispose]();
    return "open";
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    const told = `${error.code} ${error.message} ${error.hint}`;
    expect(error.hint).not.toBe("");
    for (const secret of [more.password, more.token]) if (secret !== undefined) expect(told).not.toContain(secret);
    expect(told).not.toMatch(/SU[A-Z2-7]{20}|eyJ0/);
    return told;
  }
}

test("user and password", async () => {
  await using server = await NatsServer.start({ config: 'authorization { user: "tide", password: "mark" }' });
  expect(await outcome(server.address, { user: "tide", password: "mark" })).toBe("open");
  const wrong = await outcome(server.address, { user: "tide", password: "geheim" });
  expect(wrong).toMatch(/^LOG_DENIED .*refuses the user "tide" with its password: Authorization Violation .*`user`/);
  expect(await outcome(server.address)).toMatch(/^LOG_DENIED .*refuses a connection without credentials/);
});

test("token", async () => {
  await using server = await NatsServer.start({ config: 'authorization { token: "secret" }' });
  expect(await outcome(server.address, { token: "secret" })).toBe("open");
  expect(await outcome(server.address, { token: "geheim" })).toMatch(/^LOG_DENIED .*refuses the token/);
});

test("nkey: the right one, another one, and files that hold none", async () => {
  const [known, unknown] = [nkeys.createUser(), nkeys.createUser()];
  const seedOf = (pair: typeof known): string => `${new TextDecoder().decode(pair.getSeed())}\n`;
  await using server = await NatsServer.start({
    config: `authorization { users: [{ nkey: ${known.getPublicKey()} }] }`,
  });
  expect(await outcome(server.address, { nkey: write("known.nk", seedOf(known)) })).toBe("open");
  const nkey = write("unknown.nk", seedOf(unknown));
  expect(await outcome(server.address, { nkey })).toMatch(/^LOG_DENIED .*refuses the nkey in \S*unknown\.nk/);
  for (const text of ["", "hello", known.getPublicKey(), seedOf(known).toLowerCase()]) {
    const told = await outcome(server.address, { nkey: write("no.nk", text) });
    expect(told).toMatch(/^CONFIG nats\.nkey: \S*no\.nk holds no valid nkey seed/);
  }
  expect(await outcome(server.address, { nkey: path.join(directory, "none.nk") })).toMatch(
    /^CONFIG nats\.nkey.*ENOENT/,
  );
});

test("credentials file: of this account, expired, of another operator, and files that are none", async () => {
  const operator = new NatsOperator();
  await using server = await NatsServer.start({ config: operator.serverConfig() });
  const text = operator.credentials("app");
  // nsc ends the file with a line end, editors of other systems write two characters for one, some write none at all.
  for (const variant of [`${text}\n`, text, text.replaceAll("\n", "\r\n")]) {
    expect(await outcome(server.address, { credentials: write("app.creds", variant) })).toBe("open");
  }
  const refused: readonly (readonly [string, string, RegExp])[] = [
    ["old", operator.credentials("old", { expires: 1_700_000_100 }), /\(valid until 2023-11-14T22:15:00.000Z\)/],
    ["other", new NatsOperator().credentials("app"), /Authorization Violation/],
  ];
  for (const [name, content, expected] of refused) {
    const told = await outcome(server.address, { credentials: write(`${name}.creds`, content) });
    expect(told).toMatch(expected);
    expect(told).toMatch(new RegExp(`^LOG_DENIED .*refuses the credentials in \\S*${name}\\.creds`));
  }
  const [jwtAlone = ""] = text.split("****");
  for (const content of ["", "hello", jwtAlone, text.replace(/^SU\w{6}/m, "SUAAAAAA")]) {
    const told = await outcome(server.address, { credentials: write("no.creds", content) });
    expect(told).toMatch(/^CONFIG nats\.credentials: \S*no\.creds (is no credentials file|holds no valid nkey seed)/);
  }
  expect(await outcome(server.address, { credentials: directory })).toMatch(/^CONFIG nats\.credentials: cannot read/);
});

test("credentials that expire are read again: who renews the file need not restart anything", async () => {
  const operator = new NatsOperator();
  await using server = await NatsServer.start({ config: operator.serverConfig() });
  const expires = Math.ceil(systemClock.now() / 1000) + 2;
  const short = operator.credentials("short", { expires });
  const credentials = write("short.creds", short);
  const config = natsConfig(server.address, { credentials });
  await using log = await openJetStreamLog({ config, set: "app", mode: "write" });
  const writer = await openWriter(log);
  write("short.creds", operator.credentials("long"));
  const old = write("old.creds", short);
  await until(async () => (await outcome(server.address, { credentials: old })).startsWith("LOG_DENIED"));
  // Well after the server has ended the first connection.
  await sleep(1_000);
  expect(await writer.append([mark("after")]).acknowledged).toBe(3);
});

test("TLS with an authority of one's own", async () => {
  await using server = await NatsServer.start({ config: serverTls(authority, certificate) });
  const { address } = server;
  expect(await outcome(address, { tls: { ca: authority.ca } })).toBe("open");
  const untrusted =
    /^LOG_DENIED .*TLS: unable to verify the first certificate Name the certificate authority.*nats\.tls\.ca/;
  expect(await outcome(address, { tls: { ca: stranger.ca } })).toMatch(untrusted);
  expect(await outcome(address, { tls: {} })).toMatch(untrusted);
  // Written as nats://: the server wants TLS, so it is TLS, and never less.
  expect(await outcome(address)).toMatch(untrusted);
  const named = address.replace("127.0.0.1", "localhost");
  const mismatch = /^LOG_DENIED .*TLS: Hostname\/IP does not match.*Name the server in `log:` as its certificate does/;
  expect(await outcome(named, { tls: { ca: authority.ca } })).toMatch(mismatch);
  const text = write("text.pem", "no certificate");
  expect(await outcome(address, { tls: { ca: text } })).toMatch(
    /^CONFIG nats\.tls\.ca: \S*text\.pem is no certificate/,
  );
});

test("a server that is named by its address must have that address in its certificate", async () => {
  const local = authority.issue("local", { altName: "DNS:localhost" });
  await using server = await NatsServer.start({ config: serverTls(authority, local) });
  const tls = { ca: authority.ca };
  expect(await outcome(server.address, { tls })).toMatch(/^LOG_DENIED .*TLS: .*127\.0\.0\.1 is not in the cert's list/);
  expect(await outcome(server.address.replace("127.0.0.1", "localhost"), { tls })).toBe("open");
});

test("TLS asked for, and the server has none", async () => {
  await using server = await NatsServer.start();
  const told = await outcome(server.address, { tls: { ca: authority.ca } });
  expect(told).toMatch(/^LOG_DENIED .*TLS: the server speaks no TLS .*nats:\/\//);
});

test("a client certificate, asked for and mapped to a user", async () => {
  const ours = authority.issue("capture", { altName: "email:capture@example.org" });
  const unmapped = authority.issue("unmapped", { altName: "email:unmapped@example.org" });
  const foreign = stranger.issue("foreign", { altName: "email:capture@example.org" });
  const users = 'authorization { users: [{ user: "CN=capture" }] }';
  const tls = serverTls(authority, certificate, "verify_and_map: true");
  await using server = await NatsServer.start({ config: `${tls}\n${users}` });
  const { ca } = authority;
  const opened = (more: NatsLogConfig["tls"]): Promise<string> => outcome(server.address, { tls: { ca, ...more } });
  expect(await opened(ours)).toBe("open");
  expect(await opened(unmapped)).toMatch(/^LOG_DENIED .*refuses the client certificate \S*unmapped\.pem/);
  expect(await opened(ours).then(() => opened({ cert: ours.cert }))).toMatch(
    /^CONFIG nats\.tls: .*both `cert` and `key`/,
  );
  const another = await opened({ cert: ours.cert, key: unmapped.key });
  expect(another).toMatch(/^CONFIG nats\.tls\.key: \S*unmapped\.key is not the key of \S*capture\.pem/);
  // Told late by the server: both wait for the library to give up, so at the same time.
  for (const told of await Promise.all([opened({}), opened(foreign)])) {
    expect(told).toMatch(/^LOG_DENIED .*TLS: the server refuses this client \("bad certificate"\) .*nats\.tls\.cert/);
  }
});
