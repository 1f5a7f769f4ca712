import fs from "node:fs";
import path from "node:path";
import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";

import { encodeConfig } from "../../src/repository/config-object.ts";
import { FsStore } from "../../src/repository/fs-store.ts";
import { UNFINISHED } from "../../src/repository/unfinished.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";

let fixture: RepositoryFixture;
beforeEach(() => (fixture = new RepositoryFixture()));
afterEach(async () => fixture[Symbol.asyncDispose]());

test("one that is empty is begun by whoever writes, and by nobody else; it stays the same", async () => {
  await expect(fixture.open({ mode: "read" })).rejects.toMatchObject({ code: "REPOSITORY_EMPTY" });
  expect(fixture.names()).toEqual([]);
  const { config } = await fixture.open();
  expect(config).toMatchObject({ set: "shop", encrypted: false, createdBy: "tidemark test" });
  expect(fixture.names()).toEqual(["config"]);
  expect((await fixture.open({ mode: "read" })).config).toEqual(config);
});

test("none is begun where one is known to have been", async () => {
  const { config } = await fixture.open();
  const expected = { id: config.id, notedIn: "repositories.json" };
  expect((await fixture.open({ expected })).config.id).toBe(config.id);
  fixture.remove("config");
  const hint = expect.stringContaining("remove its line from repositories.json") as string;
  await expect(fixture.open({ expected })).rejects.toMatchObject({ code: "REPOSITORY_GONE", hint });
  expect(fixture.names()).toEqual([]);
});

test("that of another set is refused, and named", async () => {
  await fixture.open();
  const message = expect.stringMatching(/belongs to the set shop, not to blog/) as string;
  await expect(fixture.open({ set: "blog" })).rejects.toMatchObject({ code: "REPOSITORY_FOREIGN", message });
});

test("two who begin it at once agree on one", async () => {
  const opened = await Promise.all([fixture.open(), fixture.open(), fixture.open()]);
  expect(new Set(opened.map(({ config }) => config.id)).size).toBe(1);
});

test("of two who put their config in the same moment one is told", async () => {
  for (let round = 0; round < 50; round += 1) {
    const directory = path.join(fixture.directory, String(round));
    const configs = ["one", "other"].map((text) => Buffer.from(text));
    const outcomes = await Promise.allSettled(
      configs.map((config) => new FsStore(directory).put("config", config, fixture.signal)),
    );
    const stored = fs.readFileSync(path.join(directory, "config"));
    outcomes.forEach((outcome, at) => {
      if (stored.equals(configs[at] ?? stored)) expect(outcome.status).toBe("fulfilled");
      else expect(outcome).toMatchObject({ status: "rejected", reason: { code: "OBJECT_EXISTS" } });
    });
    expect(fs.readdirSync(directory)).toEqual([UNFINISHED, "config"].toSorted());
    expect(fs.readdirSync(path.join(directory, UNFINISHED))).toEqual([]);
  }
});

test("a lost config is not taken for an empty repository", async () => {
  const repository = await fixture.open();
  await repository.bases.markVerified({ base: repository.config.id, atMs: 1, how: "full", host: "h" }, fixture.signal);
  fixture.remove("config");
  const message = expect.stringContaining("config") as string;
  await expect(fixture.open()).rejects.toMatchObject({ code: "OBJECT_MISSING", message });
  expect(fixture.names("config")).toEqual([]);
});

test("every damage of the config is found, a later version asks for a newer Tidemark", async () => {
  const { config } = await fixture.open();
  const sound = fixture.bytesOf("config");
  expect(Buffer.from(encodeConfig(config))).toEqual(sound);
  for (let at = 0; at < sound.length; at += 1) {
    for (const spoilt of [sound.subarray(0, at), Buffer.from(sound)]) {
      if (spoilt.length === sound.length) spoilt[at] = (spoilt[at] ?? 0) ^ 1;
      fixture.replace("config", spoilt);
      const code = at === 4 && spoilt.length === sound.length ? /OBJECT_CORRUPT|REPOSITORY_VERSION/ : /OBJECT_CORRUPT/;
      await expect(fixture.open()).rejects.toMatchObject({ code: expect.stringMatching(code) as string });
    }
  }
  const later = Buffer.from(sound);
  later[4] = 2;
  fixture.replace("config", later);
  await expect(fixture.open()).rejects.toMatchObject({ code: "REPOSITORY_VERSION" });
});

test("an encrypted one is not opened without a key", async () => {
  const { config } = await fixture.open();
  fixture.replace("config", encodeConfig({ ...config, encrypted: true }));
  await expect(fixture.open()).rejects.toMatchObject({ code: "KEY_MISSING" });
});

test("a store that fails is told as it says, and tried again it opens", async () => {
  const answer = { code: "STORE_UNREACHABLE" };
  for (const call of ["get", "list", "put"] as const) {
    const failing = new RepositoryFixture();
    failing.store.on({ call, times: 1, fault: { kind: "fail", code: "STORE_UNREACHABLE" } });
    const { store } = failing;
    await expect(failing.open({ store })).rejects.toMatchObject(answer);
    expect((await failing.open({ store })).config.set).toBe("shop");
    await failing[Symbol.asyncDispose]();
  }
});

test("a cache of another version's format is made anew", async () => {
  const { config } = await fixture.open();
  const file = path.join(fixture.cache, `${config.id}.db`);
  const cache = new Database(file);
  const version = cache.pragma("user_version", { simple: true });
  cache.pragma("user_version=99");
  cache.close();
  await fixture.open();
  const again = new Database(file, { readonly: true });
  expect(again.pragma("user_version", { simple: true })).toBe(version);
  again.close();
});
