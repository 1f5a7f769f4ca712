import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { expect, test, vi } from "vitest";

import { Application } from "../../src/compose/application.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { comparePages } from "../support/compare.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { Deployment } from "../support/deployment.ts";
import { FailoverScene, linesOf } from "../support/failover-scene.ts";
import { NatsServer } from "../support/nats-server.ts";
import { codeOf, type RunningTidemark } from "../support/tidemark-cli.ts";
import { waitFor, within } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000, maxConcurrency: 2 });

const APPLICATION = path.resolve(import.meta.dirname, "../support/apps/signalled.py");

const saidIn = (deployment: Deployment): string => path.join(deployment.directory, "said");

/** `run --exec` with an application that makes its database, or finds it. */
function launch(deployment: Deployment, ...flags: string[]): RunningTidemark {
  return deployment.launch("run", "--exec", commandOf(deployment), ...flags);
}

function commandOf(deployment: Deployment): string {
  return `exec python3 ${APPLICATION} ${deployment.database} ${saidIn(deployment)}`;
}

async function upFor(deployment: Deployment, times: number): Promise<number> {
  const up = (): string[] => linesOf(saidIn(deployment)).filter((line) => line.startsWith("up"));
  await waitFor("the application", () => up().length >= times);
  return Number(up().at(-1)?.slice("up ".length));
}

function isAlive(pid: number): boolean {
  const stat = fs.existsSync(`/proc/${pid}/stat`) ? fs.readFileSync(`/proc/${pid}/stat`, "utf8") : "";
  return stat !== "" && !stat.includes(") Z ");
}

async function bodiesOf(database: string): Promise<string[]> {
  await using session = new SqlSession(database);
  return String(await session.value("SELECT group_concat(body) FROM t")).split(",");
}

test.concurrent("an application that begins with nothing, is told signals, ends, and finds its database again when that was lost", async () => {
  await using deployment = new Deployment({ trees: ["{ path: app/uploads, name: uploads }"] });
  const uploads = deployment.pathOf("uploads");
  fs.mkdirSync(uploads);
  expect(codeOf(await launch(deployment).exited)).toEqual([2, "DATABASE_MISSING"]);
  const first = launch(deployment, "--restore-if-missing");
  await upFor(deployment, 1);
  fs.writeFileSync(path.join(uploads, "file"), "content");
  first.child.kill("SIGHUP");
  await waitFor("the signal to reach it", () => linesOf(saidIn(deployment)).includes("hup"));
  first.child.kill("SIGTERM");
  expect(await first.exited).toMatchObject({ code: 7 });
  // Handed in before the end, and no sync asked for it.
  expect((await bodiesOf(deployment.standbyDatabase)).slice(1)).toEqual(["hup", "last"]);
  expect(fs.readFileSync(path.join(deployment.standbyOf("uploads"), "file"), "utf8")).toBe("content");

  fs.rmSync(deployment.databaseDirectory, { recursive: true });
  fs.mkdirSync(uploads, { recursive: true });
  // Of the database that is gone; it belongs to no other.
  fs.writeFileSync(`${deployment.database}-wal`, "left over");
  const again = launch(deployment, "--restore-if-missing");
  await upFor(deployment, 2);
  expect((await bodiesOf(deployment.database)).slice(1, 3)).toEqual(["hup", "last"]);
  expect(fs.readFileSync(path.join(uploads, "file"), "utf8")).toBe("content");
  again.child.kill("SIGTERM");
  expect(await again.exited).toMatchObject({ code: 7 });
  expect(comparePages(deployment.database, deployment.standbyDatabase)).toBeUndefined();
  expect(fs.readdirSync(deployment.state).filter((name) => /restoring|application/.test(name))).toEqual([]);
});

test.concurrent("the agent is killed and started again: its application is ended first, and no commit of it is missing", async () => {
  await using deployment = new Deployment();
  const agent = launch(deployment, "--restore-if-missing");
  const pid = await upFor(deployment, 1);
  // Its application keeps its output open.
  agent.child.kill("SIGKILL");
  await waitFor("the agent's end", () => !isAlive(agent.child.pid ?? 0));
  expect(isAlive(pid)).toBe(true);
  process.kill(pid, "SIGHUP");
  await waitFor("a commit while nothing captures", () => linesOf(saidIn(deployment)).includes("hup"));
  const next = launch(deployment);
  const other = await upFor(deployment, 2);
  expect([isAlive(pid), isAlive(other)]).toEqual([false, true]);
  // By a signal: 128 and its number.
  process.kill(other, "SIGKILL");
  // Once, in a busy run, the test's time was over and nobody knew where it had waited.
  const ended = await within("the agent's end", 60_000, next.exited).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${next.output.stderr}`);
  });
  expect(ended).toMatchObject({ code: 137 });
  expect(await bodiesOf(deployment.standbyDatabase)).toEqual([`up ${pid}`, "hup", "last", `up ${other}`]);
});

test.concurrent("what could not be noted never runs: nobody would end it after its agent was killed", async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-application-"));
  const [state, ran] = [path.join(directory, "state"), path.join(directory, "ran")];
  fs.writeFileSync(state, "a file where the directory should be");
  expect(() => new Application(`echo ran > ${ran}`, state)).toThrow(/EEXIST|ENOTDIR/);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(fs.existsSync(ran)).toBe(false);
  fs.rmSync(state);
  expect(await new Application(`echo ran > ${ran}; exit 3`, state).ended).toBe(3);
  expect(fs.existsSync(ran)).toBe(true);
  fs.rmSync(directory, { recursive: true });
});

test.concurrent("it is not started when nothing can be captured, or nobody knows what there is; it is ended when another host takes over", async () => {
  await using server = await NatsServer.start();
  await using scene = new FailoverScene(server.address);
  const { host, app } = await scene.primary("fence: none");
  await app.disconnect();
  const start = (...flags: string[]): RunningTidemark => host.launch("capture", "--exec", commandOf(host), ...flags);
  await server.kill();
  fs.renameSync(host.database, `${host.database}.away`);
  expect(codeOf(await start("--restore-if-missing").exited)).toEqual([3, "LOG_UNREACHABLE"]);
  fs.renameSync(`${host.database}.away`, host.database);
  await server.start();
  const agent = start();
  const pid = await upFor(host, 1);
  await scene.takeOver();
  expect(codeOf(await agent.exited)).toEqual([5, "FENCED"]);
  expect(isAlive(pid)).toBe(false);
  expect(linesOf(saidIn(host))).toEqual([`up ${pid}`, "last"]);
});

for (const point of pointsOf("run --exec")) {
  test.concurrent(`${point}: killed there, the next start restores all of it`, async () => {
    await using crash = new CrashScene({ trees: ["{ path: app/uploads, name: uploads }"] });
    const { deployment } = crash;
    const uploads = deployment.pathOf("uploads");
    fs.mkdirSync(path.join(uploads, "some"), { recursive: true });
    for (const name of ["one", "some/two"]) fs.writeFileSync(path.join(uploads, name), name);
    // It lives for less than it takes capture to look for it again.
    const made = "PRAGMA journal_mode=WAL; CREATE TABLE t (body); INSERT INTO t VALUES ('made')";
    const maker = deployment.launch(
      "run",
      "--restore-if-missing",
      "--exec",
      `sqlite3 ${deployment.database} "${made}"`,
    );
    expect(await maker.exited).toMatchObject({ code: 0 });
    fs.rmSync(deployment.databaseDirectory, { recursive: true });
    fs.mkdirSync(uploads, { recursive: true });
    crash.order(point);
    const flags = ["--restore-if-missing", "--exec", "true"];
    expect((await crash.launch("run", ...flags).exited).code).not.toBe(0);
    expect(fs.existsSync(deployment.database)).toBe(false);
    expect(fs.existsSync(path.join(uploads, "one"))).toBe(point !== "exec: restored");
    const checks = `test -s ${deployment.database} && cd ${uploads} && test "$(cat one some/two)" = "onesome/two"`;
    const next = deployment.launch("run", "--restore-if-missing", "--exec", checks);
    expect(await next.exited).toMatchObject({ code: 0 });
    expect(comparePages(deployment.database, deployment.standbyDatabase)).toBeUndefined();
  });
}
