import { execFileSync } from "node:child_process";
import fs from "node:fs";
import http from "node:http";

import { expect, test, vi } from "vitest";

import { CliScene } from "../support/cli-scene.ts";
import { lastJson } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

// Every step is a process of its own; many at once are slow on a busy machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const RUN = ["run", "--db", "app.db", "--standby", "standby"];

test.concurrent("run says when it is ready and how to restore, in one line", async () => {
  await using scene = new CliScene();
  scene.database();
  const human = scene.start(RUN);
  expect(await human.waitReady()).toBe(
    `ready: app.db live on ${scene.path("standby")}; restore with: tidemark restore --standby ${scene.path("standby")} --target DIR [--to TIME]`,
  );
  const ended = await human.stop();
  expect(ended.code).toBe(0);
  expect(ended.stdout.split("\n")).toHaveLength(2);

  const machine = scene.start([...RUN, "--json"]);
  expect(JSON.parse(await machine.waitReady())).toMatchObject({
    ready: true,
    role: "run",
    set: "app",
    standby: scene.path("standby"),
  });
  const { code, stderr } = await machine.stop();
  expect(code).toBe(0);
  // Not a terminal: the agent's log is JSON lines.
  const lines = stderr
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(lines.at(-1)).toMatchObject({ level: 30, msg: "stopped" });
});

test.concurrent("status, sync and mark ask the running agent; the socket is its owner's alone", async () => {
  await using scene = new CliScene();
  scene.quiet();
  scene.database();
  const running = scene.start(RUN);
  await running.waitReady();
  expect(fs.statSync(scene.path("standby/.tidemark/control.sock")).mode & 0o777).toBe(0o600);
  expect(await scene.ask(["sync", "--applied", "--standby", "standby"])).toEqual({
    ok: true,
    offset: 3,
    applied: true,
    durationMs: expect.any(Number) as number,
  });
  expect(await scene.ask(["sync", "--standby", "standby"])).toMatchObject({ ok: true, offset: 3, applied: false });
  expect(await scene.ask(["status", "--standby", "standby"])).toMatchObject({
    set: "app",
    epoch: 1,
    log: { first: 1, last: 3, bytes: expect.any(Number) as number },
    capture: { offset: 3, at: expect.stringMatching(/Z$/) as string, lagMs: 0 },
    standby: { offset: 3, at: expect.stringMatching(/Z$/) as string, lagMs: 0, lagEvents: 0, verified: true },
    repository: { base: null, archived: null, bytes: null },
    rpo: { actualMs: 0, objectiveMs: 3_600_000, ok: true },
    alerts: [],
    agents: [{ role: "run", pid: running.child.pid, state: "running", problem: null }],
  });
  expect((await scene.run(["status", "--standby", "standby"])).stdout).toMatch(/standby +3 .* verified/);
  expect(await scene.ask(["mark", "one", "--standby", "standby"])).toMatchObject({ ok: true, name: "one", offset: 4 });
  expect(await scene.refused(["mark", "one", "--standby", "standby"])).toMatchObject({ exit: 1, code: "MARK_EXISTS" });
});

test.concurrent("a second agent on the same set is refused with 6, whichever way it comes", async () => {
  await using scene = new CliScene();
  scene.database();
  const running = scene.start(RUN);
  await running.waitReady();
  const log = `embedded:${scene.path("standby/.tidemark/log")}`;
  for (const args of [
    RUN,
    ["capture", "--db", "app.db", "--log", log, "--state", "other"],
    ["replica", "--standby", "standby", "--log", log],
  ]) {
    const { code, stderr } = await scene.run([...args, "--json"]);
    expect({ code, error: lastJson(stderr) }).toMatchObject({ code: 6, error: { ok: false, code: "AGENT_RUNNING" } });
  }
  expect(await scene.ask(["status", "--standby", "standby"])).toMatchObject({
    agents: [{ role: "run", state: "running" }],
    alerts: [],
  });
});

test.concurrent("after kill -9 the next start takes the dead socket away and goes on", async () => {
  await using scene = new CliScene();
  scene.database();
  const first = scene.start(RUN);
  await first.waitReady();
  await first.kill9();
  expect(fs.existsSync(scene.path("standby/.tidemark/control.sock"))).toBe(true);
  expect(await scene.refused(["sync", "--standby", "standby"])).toMatchObject({ exit: 3, code: "AGENT_NOT_RUNNING" });
  const second = scene.start(RUN);
  await second.waitReady();
  expect((await second.stop()).code).toBe(0);
  expect(fs.existsSync(scene.path("standby/.tidemark/control.sock"))).toBe(false);
});

test.concurrent("a state directory too deep for a socket's address works all the same", async () => {
  await using scene = new CliScene();
  scene.database();
  const state = scene.path("d".repeat(100), "e".repeat(60));
  const running = scene.start([...RUN, "--state", state]);
  await running.waitReady();
  expect(await scene.ask(["sync", "--state", state])).toMatchObject({ ok: true });
  // `run` answers under its standby as well.
  expect(await scene.ask(["status", "--standby", "standby"])).toMatchObject({ agents: [{ pid: running.child.pid }] });
  expect((await running.stop()).code).toBe(0);
  expect(fs.existsSync(`${state}/control.sock`)).toBe(false);
});

test.concurrent("the control socket refuses what it does not know, and bodies without end", async () => {
  await using scene = new CliScene();
  scene.database();
  const running = scene.start(RUN);
  await running.waitReady();
  const socketPath = scene.path("standby/.tidemark/control.sock");
  expect(await post(socketPath, "/unknown", "{}")).toMatchObject({ ok: false, code: "USAGE" });
  expect(await post(socketPath, "/mark", "[1]")).toMatchObject({ ok: false, code: "USAGE" });
  expect(await post(socketPath, "/mark", JSON.stringify({ name: "x".repeat(70_000) }))).toMatchObject({
    code: "USAGE",
    message: expect.stringContaining("longer than") as string,
  });
  expect(await post(socketPath, "/mark", "{}")).toMatchObject({ code: "USAGE" });
  expect(await post(socketPath, "/sync", '{"offset":-1}')).toMatchObject({ code: "USAGE" });
});

test.concurrent("a standby that somebody wrote to halts the replica alone: capture goes on, and the exit code is 4", async () => {
  await using scene = new CliScene();
  const file = scene.database();
  const running = scene.start(RUN);
  await running.waitReady();
  insert(file);
  expect(await scene.ask(["sync", "--applied", "--standby", "standby"])).toMatchObject({ ok: true, applied: true });
  insert(scene.path("standby/app.db"));
  insert(file);
  const status = (): Promise<Record<string, unknown>> => scene.ask(["status", "--standby", "standby"]);
  const halted = await waitFor("the halt", async () => {
    const report = await status();
    return (report["standby"] as { state: string }).state === "halted" && report;
  });
  expect(JSON.stringify(halted["alerts"])).toContain(scene.path("standby"));
  expect(running.output.stderr).toContain("the standby is halted, capture goes on");
  insert(file);
  expect(await scene.ask(["sync", "--standby", "standby"])).toMatchObject({ ok: true });
  expect(await scene.ask(["sync", "--applied", "--standby", "standby"])).toMatchObject({ ok: false });
  const ended = await running.stop();
  expect(ended.code).toBe(4);
  expect(ended.stderr).toMatch(/\nSTANDBY_WRITTEN: /);
});

/** From another process, as an application would. */
function insert(file: string): void {
  execFileSync("python3", [
    "-c",
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(\"INSERT INTO note (text) VALUES ('x')\"); c.commit()",
    file,
  ]);
}

test.concurrent("log --follow shows what comes, and ends with 130 on SIGINT", async () => {
  await using scene = new CliScene();
  scene.database();
  const running = scene.start(RUN);
  await running.waitReady();
  const follower = scene.start(["log", "--follow", "--from", "3", "--standby", "standby"]);
  await waitFor("the first event", () => follower.output.stdout.includes("app.db (copy)"));
  await scene.run(["mark", "seen", "--standby", "standby"]);
  await waitFor("the mark", () => /mark .* seen/.test(follower.output.stdout));
  follower.child.kill("SIGINT");
  expect((await follower.exited).code).toBe(130);
});

test.concurrent("a reader that had enough of a list ends it without an error", async () => {
  await using scene = new CliScene();
  scene.database();
  const running = scene.start(RUN);
  await running.waitReady();
  const follower = scene.start(["log", "--follow", "--standby", "standby"]);
  await waitFor("the first event", () => follower.output.stdout.includes("genesis"));
  follower.child.stdout?.destroy();
  await scene.run(["mark", "unread", "--standby", "standby"]);
  expect(await follower.exited).toMatchObject({ code: 0, stderr: "" });
});

function post(socketPath: string, path: string, body: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, path, method: "POST", agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () => resolve(JSON.parse(text)));
    });
    request.on("error", reject);
    request.end(body);
  });
}
