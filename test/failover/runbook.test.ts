import fs from "node:fs";
import path from "node:path";

import { expect, test, vi } from "vitest";

import { comparePages } from "../support/compare.ts";
import type { Deployment } from "../support/deployment.ts";
import { FailoverScene, fenceOf } from "../support/failover-scene.ts";
import { NatsServer } from "../support/nats-server.ts";
import { type CliResult, lastJson } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000 });

const RUNBOOK = path.join(import.meta.dirname, "../../docs/runbooks/failover.md");

/** The commands of the page, in its order, without the configuration file. */
function commands(): string[][] {
  const lines = fs.readFileSync(RUNBOOK, "utf8").matchAll(/^ +tidemark (.*) -c \/etc\/tidemark\/tidemark\.yml(.*)$/gm);
  return [...lines].map(([, command = "", flags = ""]) => `${command}${flags}`.split(" "));
}

test("the runbook: a planned change, the former primary as a standby, the new one lost, who is it now", async () => {
  await using server = await NatsServer.start();
  await using scene = new FailoverScene(server.address);
  const { host: one, app } = await scene.primary();
  const two = scene.host();
  const rest = commands();
  expect(rest.length).toBe(fs.readFileSync(RUNBOOK, "utf8").split(/^ +tidemark /m).length - 1);
  const next = async (host: Deployment, expected: string): Promise<CliResult> => {
    const words = rest.shift() ?? [];
    expect(words.join(" ")).toBe(expected);
    return host.command(...words);
  };

  const capture = await one.start("capture");
  const replica = await two.start("replica");
  await app.run("INSERT INTO t (body) VALUES ('the last')");
  await app.disconnect();
  expect(await next(one, "switchover --dry-run")).toMatchObject({ code: 0 });
  expect(await next(one, "switchover")).toMatchObject({ code: 0 });
  const served = scene.open(two.standbyDatabase);
  await served.run("INSERT INTO t (body) VALUES ('on the second host')");
  expect(await next(two, "status")).toMatchObject({ code: 0 });
  await two.answer("sync");

  expect(await capture.stop()).toMatchObject({ code: 5 });
  expect(await next(one, "rejoin --dry-run")).toMatchObject({ code: 0 });
  const rejoined = await next(one, "rejoin");
  expect(rejoined).toMatchObject({ code: 0 });
  expect(lastJson(rejoined.stdout)).toMatchObject({ diverged: { directory: null, databases: [] } });
  expect(rest.shift()).toEqual(["replica"]);
  await one.start("replica");
  const rows = scene.open(one.standbyDatabase);
  const shown = async (): Promise<unknown> => rows.value("SELECT group_concat(body) FROM t");
  await waitFor("it to follow", async () => (await shown()) === "first,the last,on the second host");

  await replica.kill9();
  // A second promotion so soon is taken for a mistake unless it is forced.
  const soon = await next(one, "promote");
  expect(soon).toMatchObject({ code: 6 });
  expect(await one.answer("promote", "--force")).toMatchObject({ epoch: 3, lost: { offsets: 0 } });
  await rows.run("INSERT INTO t (body) VALUES ('on the first host again')");
  expect(await next(one, "history")).toMatchObject({ code: 0 });

  two.launch("replica");
  await waitFor("the second host to be fenced", async () => (await fenceOf(two))?.locked === 1);
  expect(await next(two, "history")).toMatchObject({ code: 0 });
  expect(await next(two, "status")).toMatchObject({ code: 5 });

  const three = scene.host();
  const standby = await three.start("replica");
  await waitFor(
    "the third host to follow",
    () => comparePages(one.standbyDatabase, three.standbyDatabase) === undefined,
  );
  await standby.stop();
  await server.loseStore();
  expect(await next(three, "promote --new-log --dry-run")).toMatchObject({ code: 0 });
  expect(await next(three, "promote --new-log")).toMatchObject({ code: 0 });
  expect(rest.shift()).toEqual(["replica"]);
  await three.start("replica");
  const found = scene.open(three.standbyDatabase);
  expect(await found.value("SELECT group_concat(body) FROM t")).toBe(
    "first,the last,on the second host,on the first host again",
  );
  expect(await next(three, "history")).toMatchObject({ code: 0 });
  expect(rest).toEqual([]);
});
