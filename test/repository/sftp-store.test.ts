import { execFileSync } from "node:child_process";
import fs from "node:fs";

import { afterAll, beforeAll, expect, test } from "vitest";

import type { SftpPlace } from "../../src/config/config.ts";
import type { ObjectStore } from "../../src/repository/object-store.ts";
import { RetryingStore } from "../../src/repository/retrying-store.ts";
import type { SftpOptions } from "../../src/repository/sftp-connection.ts";
import { SftpStore } from "../../src/repository/sftp-store.ts";
import { withEnvironment } from "../support/environment.ts";
import { codeOf } from "../support/log-records.ts";
import { Random } from "../support/random.ts";
import { PasswordServer, SftpServer } from "../support/sftp-server.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { TcpProxy } from "../support/tcp-proxy.ts";
import { waitFor } from "../support/wait.ts";

const MiB = 1024 * 1024;
const { signal } = new AbortController();
let server: SftpServer;

beforeAll(async () => {
  server = await SftpServer.start();
});
afterAll(async () => await server[Symbol.asyncDispose]());

function storeWith(options: Partial<SftpPlace>): SftpStore {
  return new SftpStore({ ...server.place, ...options });
}

async function refusal(store: ObjectStore): Promise<{ code: string; message: string; hint: string }> {
  const refused: unknown = await store.head("config", signal).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "STORE_DENIED", retryable: false });
  return refused as { code: string; message: string; hint: string };
}

function through(proxy: TcpProxy, directory: string, options?: SftpOptions): SftpStore {
  const port = Number(proxy.address.split(":")[1]);
  const host = { port, knownHosts: undefined, hostKey: server.fingerprint };
  return new SftpStore({ ...server.place, ...host, directory: server.at(directory) }, options);
}

test("a host whose key nobody knows is refused, with the key and what to do", async () => {
  await using store = storeWith({ knownHosts: "/dev/null" });
  const { message, hint } = await refusal(store);
  expect(message).toContain(`is not known: ${server.fingerprint}`);
  expect(hint).toContain(`set hostKey: ${server.fingerprint}`);
  await using trusting = storeWith({ knownHosts: "/dev/null", hostKey: server.fingerprint });
  expect(await trusting.head("config", signal)).toBeUndefined();
});

test("a host that shows another key than the known one is refused, and what that may mean is said", async () => {
  server.makeKey("other_key");
  const other = fs.readFileSync(server.at("other_key.pub"), "utf8");
  fs.writeFileSync(server.at("other_hosts"), `[127.0.0.1]:${server.place.port} ${other}`);
  await using store = storeWith({ knownHosts: server.at("other_hosts") });
  expect((await refusal(store)).message).toContain("somebody may stand in between");
});

test("a user who may not log in is told so", async () => {
  await using stranger = storeWith({ keyFile: server.at("host_key") });
  expect((await refusal(stranger)).message).toContain("authentication");
  await using nothing = storeWith({ keyFile: server.at("no-such-key") });
  expect((await refusal(nothing)).message).toContain("no-such-key cannot be used");
});

test("an encrypted key needs its passphrase, which the environment gives", async () => {
  server.makeKey("locked_key", "open sesame");
  fs.appendFileSync(server.at("authorized_keys"), fs.readFileSync(server.at("locked_key.pub")));
  await using closed = storeWith({ keyFile: server.at("locked_key") });
  expect((await refusal(closed)).hint).toContain("TIDEMARK_SFTP_PASSPHRASE");
  await withEnvironment({ TIDEMARK_SFTP_PASSPHRASE: "open sesame" }, async () => {
    await using store = storeWith({ keyFile: server.at("locked_key") });
    expect(await store.head("config", signal)).toBeUndefined();
  });
});

test("a password of the environment logs in where no key does; a wrong one, or none, is refused", async () => {
  await using byPassword = await PasswordServer.start(server, "correct horse");
  const { place } = byPassword;
  await withEnvironment({ TIDEMARK_SFTP_PASSWORD: "correct horse", HOME: server.directory }, async () => {
    await using store = new SftpStore({ ...place, directory: server.at("by-password") });
    await store.put("config", Buffer.from("1"), signal);
    expect(Buffer.from(await store.get("config", signal)).toString()).toBe("1");
  });
  await withEnvironment({ TIDEMARK_SFTP_PASSWORD: "battery staple", HOME: server.directory }, async () => {
    await using store = new SftpStore(place);
    const { message, hint } = await refusal(store);
    expect(message).toContain("authentication");
    expect(hint).toContain("TIDEMARK_SFTP_PASSWORD");
    expect(message + hint).not.toContain("battery");
  });
  await withEnvironment({ HOME: server.directory }, async () => {
    await using store = new SftpStore(place);
    await refusal(store);
  });
});

test("ssh-agent's keys are used, and one that does not answer is an ordinary refusal", async () => {
  const socket = server.at("agent");
  const said = execFileSync("ssh-agent", ["-a", socket], { encoding: "utf8" });
  const pid = Number(/SSH_AGENT_PID=(\d+)/.exec(said)?.[1]);
  try {
    execFileSync("ssh-add", ["-q", server.at("user_key")], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
    await withEnvironment({ SSH_AUTH_SOCK: socket, HOME: server.directory }, async () => {
      await using store = storeWith({ keyFile: undefined });
      expect(await store.head("config", signal)).toBeUndefined();
    });
  } finally {
    process.kill(pid);
  }
  await withEnvironment({ SSH_AUTH_SOCK: server.at("nowhere"), HOME: server.directory }, async () => {
    await using store = storeWith({ keyFile: undefined });
    await refusal(store);
  });
});

test("after a cut the next call connects anew", async () => {
  await using store = storeWith({ directory: server.at("cut") });
  await store.put("config", Buffer.from("1"), signal);
  server.cut();
  const cut = await codeOf(store.head("config", signal));
  expect(["none", "STORE_UNREACHABLE"]).toContain(cut);
  expect(Buffer.from(await store.get("config", signal)).toString()).toBe("1");
});

test("a connection that is cut in the middle of a put leaves no object, and a repetition puts it", async () => {
  await using proxy = await TcpProxy.start(server.place.port);
  await using store = through(proxy, "torn");
  const data = new Random("cut in the middle").bytes(8 * MiB);
  proxy.onUpload = () => {
    if (proxy.uploaded < 4 * MiB) return;
    proxy.onUpload = undefined;
    proxy.cut();
  };
  expect(await codeOf(store.put("packs/00/one", data, signal))).toBe("STORE_UNREACHABLE");
  expect(await store.head("packs/00/one", signal)).toBeUndefined();
  proxy.onUpload = () => {
    if (proxy.uploaded < 16 * MiB) return;
    proxy.onUpload = undefined;
    proxy.cut();
  };
  await new RetryingStore(store).put("packs/00/one", data, signal);
  expect(Buffer.compare(await store.get("packs/00/one", signal), data)).toBe(0);
});

test("bytes that were changed on the way are never given out", async () => {
  await using proxy = await TcpProxy.start(server.place.port);
  await using store = through(proxy, "changed");
  const data = new Random("changed").bytes(MiB);
  await store.put("one", data, signal);
  let answered = 0;
  proxy.rewriteAnswers = () => (chunk) => {
    answered += chunk.length;
    if (answered < MiB / 2) return chunk;
    answered = Number.NEGATIVE_INFINITY;
    return Buffer.concat([chunk.subarray(0, -1), Buffer.from([(chunk.at(-1) ?? 0) ^ 1])]);
  };
  proxy.cut();
  await waitFor("the end of the old connection", async () => (await codeOf(store.head("one", signal))) === "none");
  expect(await codeOf(store.get("one", signal))).toBe("STORE_UNREACHABLE");
  expect(Buffer.compare(await store.get("one", signal), data)).toBe(0);
});

test("a server that stops answering holds nobody who gives up", async () => {
  await using proxy = await TcpProxy.start(server.place.port);
  await using store = through(proxy, "silent");
  await store.put("one", Buffer.from("1"), signal);
  proxy.swallowAnswers = true;
  // One waits for an answer, the other for a connection.
  await using unconnected = through(proxy, "silent");
  const reason = new Error("enough");
  const controller = new AbortController();
  const gets = [store, unconnected].map(async (one) => await one.get("one", controller.signal));
  controller.abort(reason);
  for (const get of gets) await expect(get).rejects.toBe(reason);
});

test("a server that is gone without a word is noticed, and its successor asked", async () => {
  await using proxy = await TcpProxy.start(server.place.port);
  await using store = through(proxy, "gone", { keepaliveMs: 50 });
  await store.put("one", Buffer.from("1"), signal);
  proxy.swallowAnswers = true;
  expect(await codeOf(store.get("one", signal))).toBe("STORE_UNREACHABLE");
  proxy.swallowAnswers = false;
  expect(Buffer.from(await store.get("one", signal)).toString()).toBe("1");
});

test("a full disk is said to be full, keeps nothing of the object, and serves again when there is room", async () => {
  using disk = new SmallDisk(server.directory, 4);
  await using store = storeWith({ directory: disk.path });
  const data = new Random("full disk").bytes(6 * MiB);
  expect(await codeOf(store.put("packs/00/one", data, signal))).toBe("STORE_FULL");
  expect(disk.freeBytes).toBeGreaterThan(3.9 * MiB);
  disk.resize(16);
  await store.put("packs/00/one", data, signal);
  expect((await store.head("packs/00/one", signal))?.bytes).toBe(6 * MiB);
});

test("a server that lets nobody write there is denied, and read from", async () => {
  await using reading = await SftpServer.start("-R");
  fs.writeFileSync(reading.at("served/config"), "1");
  await using store = new SftpStore(reading.place);
  expect(await codeOf(store.put("one", Buffer.from("1"), signal))).toBe("STORE_DENIED");
  expect(await codeOf(store.remove("config", signal))).toBe("STORE_DENIED");
  expect((await Array.fromAsync(store.list("", signal))).map(({ name }) => name)).toEqual(["config"]);
});

test("a server without OpenSSH's extensions will do", async () => {
  await using plain = await SftpServer.start("-P posix-rename,fsync,statvfs,limits");
  await using store = new SftpStore(plain.place);
  await store.put("a/one", Buffer.from("first"), signal);
  await store.put("a/one", Buffer.from("first"), signal);
  expect(await codeOf(store.put("a/one", Buffer.from("other"), signal))).toBe("OBJECT_EXISTS");
  expect(Buffer.from(await store.get("a/one", signal)).toString()).toBe("first");
});

test("what a killed writer left is removed after an hour, by the clock over there", async () => {
  const leftovers = server.at("left/.unfinished");
  fs.mkdirSync(leftovers, { recursive: true });
  for (const name of ["old", "new"]) fs.writeFileSync(`${leftovers}/${name}`, "part of an object");
  const hoursAgo = Date.now() / 1000 - 2 * 60 * 60;
  fs.utimesSync(`${leftovers}/old`, hoursAgo, hoursAgo);
  await using store = storeWith({ directory: server.at("left") });
  await store.put("config", Buffer.from("1"), signal);
  expect(fs.readdirSync(leftovers)).toEqual(["new"]);
});
