import fs from "node:fs";

import { expect, test, vi } from "vitest";

import { CliScene } from "../support/cli-scene.ts";
import { freePort } from "../support/nats-server.ts";

// Every step is a process of its own; many at once are slow on a busy machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

/** Everything that `run` could have made. */
function leftovers(scene: CliScene): string[] {
  return fs
    .readdirSync(scene.directory)
    .filter((name) => !["app.db", "home", "tidemark.yml", "tenants"].includes(name));
}

const RUN = ["run", "--db", "app.db", "--standby", "standby"];

test.concurrent("a missing database", async () => {
  await using scene = new CliScene();
  const refused = await scene.refused(RUN);
  expect(refused).toMatchObject({ exit: 2, code: "DATABASE_MISSING" });
  expect(refused.message).toContain(scene.path("app.db"));
  expect(leftovers(scene)).toEqual([]);
});

test.concurrent("a file that is no database", async () => {
  await using scene = new CliScene();
  scene.write("app.db", "this is a letter to my aunt, and long enough to be a header of a database\n".repeat(10));
  const refused = await scene.refused(RUN);
  expect(refused).toMatchObject({ exit: 2, code: "DATABASE_NOT_SQLITE" });
  expect(refused.message).toContain(scene.path("app.db"));
  expect(leftovers(scene)).toEqual([]);
});

test.concurrent("a directory in the place of a database", async () => {
  await using scene = new CliScene();
  fs.mkdirSync(scene.path("app.db"));
  expect(await scene.refused(RUN)).toMatchObject({ exit: 2, code: "DATABASE_NOT_SQLITE" });
});

test.concurrent("a database that is not in WAL mode is refused and left as it is; --set-wal switches it", async () => {
  await using scene = new CliScene();
  const file = scene.database("app.db", "delete");
  const before = fs.readFileSync(file);
  const refused = await scene.refused(RUN);
  expect(refused).toMatchObject({ exit: 2, code: "DATABASE_NOT_WAL" });
  expect(refused.message).toContain(file);
  expect(refused.hint).toMatch(/journal_mode=WAL.*--set-wal/);
  expect(fs.readFileSync(file).equals(before)).toBe(true);
  expect(leftovers(scene)).toEqual([]);

  const running = scene.start([...RUN, "--set-wal"]);
  await running.waitReady();
  expect(fs.readFileSync(file).subarray(18, 20)).toEqual(Buffer.from([2, 2]));
  expect((await running.stop()).code).toBe(0);
});

test.concurrent("a database whose directory cannot be written", async () => {
  await using scene = new CliScene();
  scene.database("locked/app.db");
  fs.chmodSync(scene.path("locked"), 0o500);
  const refused = await scene.refused(["run", "--db", "locked/app.db", "--standby", "standby"], { unprivileged: true });
  expect(refused).toMatchObject({ exit: 2, code: "DATABASE_UNREADABLE" });
  expect(refused.message).toContain(scene.path("locked/app.db"));
  fs.chmodSync(scene.path("locked"), 0o000);
  const hidden = await scene.refused(["run", "--db", "locked/app.db", "--standby", "standby"], { unprivileged: true });
  expect(hidden).toMatchObject({ exit: 2, code: "DATABASE_UNREADABLE" });
  expect(fs.existsSync(scene.path("standby"))).toBe(false);
  fs.chmodSync(scene.path("locked"), 0o700);
});

test.concurrent("a standby that cannot be written", async () => {
  await using scene = new CliScene();
  scene.database();
  fs.mkdirSync(scene.path("standby"), { mode: 0o500 });
  const refused = await scene.refused(RUN, { unprivileged: true });
  expect(refused.exit).toBe(1);
  expect(refused.code).toBe("IO");
  expect(refused.message).toContain(scene.path("standby"));
});

test.concurrent("a set name that is no subject token", async () => {
  await using scene = new CliScene();
  scene.database();
  const refused = await scene.refused([...RUN, "--set", "my.app"]);
  expect(refused).toMatchObject({ exit: 2, code: "CONFIG" });
  expect(refused.message).toContain('--set: "my.app" is no set name');
  expect(leftovers(scene)).toEqual([]);
});

test.concurrent("an unknown key of the file, with its line and the nearest name", async () => {
  await using scene = new CliScene();
  scene.write("tidemark.yml", "set: app\nstandbye: /srv\n");
  const refused = await scene.refused(["status"]);
  expect(refused).toMatchObject({ exit: 2, code: "CONFIG" });
  expect(refused.message).toBe(
    `${scene.path("tidemark.yml")}:2: standbye: there is no such key; did you mean standby?`,
  );
});

test.concurrent("a log level that is none", async () => {
  await using scene = new CliScene();
  scene.database();
  const refused = await scene.refused(RUN, { env: { TIDEMARK_LOG: "wran" } });
  expect(refused).toMatchObject({ exit: 2, code: "CONFIG" });
  expect(refused.message).toBe('TIDEMARK_LOG: "wran" is no log level; did you mean warn?');
});

test.concurrent("a limit of the log that is smaller than one copy", async () => {
  await using scene = new CliScene();
  scene.database();
  scene.write("tidemark.yml", "databases: [app.db]\nlog: nats://127.0.0.1:9\nnats: { maxBytes: 1KiB }\nstate: state\n");
  const refused = await scene.refused(["capture"]);
  expect(refused).toMatchObject({ exit: 2, code: "CONFIG" });
  expect(refused.message).toContain("nats.maxBytes is 1.0 KiB, but one copy of the set takes 8.0 KiB");
});

test.concurrent("one-shot commands end at once, with 3, when the log is unreachable", async () => {
  await using scene = new CliScene();
  const log = `nats://me:geheim@127.0.0.1:${await freePort()}`;
  for (const args of [["log"], ["marks"], ["status"], ["restore", "--target", "out"]]) {
    const refused = await scene.refused([...args, "--set", "app", "--log", log]);
    expect(refused).toMatchObject({ exit: 3, code: "LOG_UNREACHABLE" });
    expect(refused.message).not.toContain("geheim");
  }
  expect(fs.existsSync(scene.path("out"))).toBe(false);
});

test.concurrent("an embedded log that is not there", async () => {
  await using scene = new CliScene();
  const refused = await scene.refused(["restore", "--standby", "nothing", "--target", "out"]);
  expect(refused).toMatchObject({ exit: 3, code: "LOG_UNREACHABLE" });
  expect(refused.message).toContain(scene.path("nothing/.tidemark/log"));
  expect(leftovers(scene)).toEqual([]);
});

test.concurrent.each([["mark", "x"], ["sync"], ["sync", "--applied"]])(
  "%s without a running agent",
  async (...args) => {
    await using scene = new CliScene();
    const refused = await scene.refused([...args, "--standby", "standby"]);
    expect(refused).toMatchObject({ exit: 3, code: "AGENT_NOT_RUNNING" });
    expect(refused.message).toContain(scene.path("standby/.tidemark"));
    expect(refused.hint).toContain("tidemark run");
  },
);

test.concurrent("a command that does not know which set is meant", async () => {
  await using scene = new CliScene();
  expect(await scene.refused(["sync"])).toMatchObject({ exit: 2, code: "CONFIG" });
  expect(await scene.refused(["log"])).toMatchObject({
    exit: 2,
    code: "CONFIG",
    message: "tidemark log does not know where the log is",
  });
});
