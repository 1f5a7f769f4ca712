import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import type { Offset } from "../../src/event/positions.ts";
import { Program } from "../support/apps/program.ts";

import { Random } from "../support/random.ts";
import { differences, RandomTree } from "../support/random-tree.ts";
import { applied } from "../support/replica-fixture.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { StandbyTreeScene } from "../support/standby-tree.ts";
import { TreeSource } from "../support/tree-source.ts";
import { waitFor } from "../support/wait.ts";

const REPLICA = path.join(import.meta.dirname, "../support/replica-program.ts");
const NOBODY = 65_534;

test("a standby of trees only becomes like the primary, and follows", async () => {
  await using scene = await StandbyTreeScene.open();
  scene.write("a/b/c.txt", "hello");
  scene.write("big.bin", Buffer.alloc(3_000_000, "0123456789abcdefg"));
  fs.symlinkSync("a/b", path.join(scene.root, "link"));
  fs.linkSync(path.join(scene.root, "big.bin"), path.join(scene.root, "a/other-name"));
  await scene.publish();
  const agent = await scene.fixture.ready();
  expect(differences(scene.root, scene.standby)).toBe("");
  fs.appendFileSync(path.join(scene.root, "big.bin"), "more");
  fs.rmSync(path.join(scene.root, "a/b"), { recursive: true });
  scene.write("a/b", "a file now");
  await applied(agent, await scene.publish());
  expect(differences(scene.root, scene.standby)).toBe("");
});

test("random changes, batch by batch and caught up at once", async () => {
  await using scene = await StandbyTreeScene.open({ inline: 1000 });
  const random = new Random("random trees");
  const tree = new RandomTree(scene.root, random);
  await scene.publish();
  const agent = await scene.fixture.ready();
  for (let round = 0; round < 20; round += 1) {
    tree.change(random.integer(1, 60));
    await applied(agent, await scene.publish());
    expect(differences(scene.root, scene.standby)).toBe("");
  }
  await scene.fixture.stop();
  for (let round = 0; round < 10; round += 1) {
    tree.change(40);
    await scene.publish();
  }
  await scene.fixture.ready();
  expect(differences(scene.root, scene.standby)).toBe("");
});

test("a single file below another directory, and a tree whose place is a volume of its own", async () => {
  await using scene = await StandbyTreeScene.open();
  const { fixture } = scene;
  const env = path.join(fixture.directory, "env");
  fs.writeFileSync(env, "A=1\n", { mode: 0o600 });
  fs.mkdirSync(fixture.standby);
  using disk = new SmallDisk(fixture.standby, 16);
  const trees = [new TreeSource("conf/.env", env), new TreeSource(path.basename(disk.path), scene.root)];
  const publish = async (): Promise<Offset> =>
    fixture.log.append(trees.flatMap((tree) => Object.values(tree.changes()).flat()));
  const requireEqual = (): void => {
    for (const { name, root } of trees) expect(differences(root, fixture.file(name))).toBe("");
  };
  scene.write("a/f", "1");
  fs.symlinkSync("f", path.join(scene.root, "a/l"));
  fs.linkSync(path.join(scene.root, "a/f"), path.join(scene.root, "a/name"));
  await publish();
  const agent = await fixture.ready();
  requireEqual();
  fs.appendFileSync(env, "B=2\n");
  fs.chmodSync(path.join(scene.root, "a/f"), 0o4711);
  scene.write("a/g", "2");
  await applied(agent, await publish());
  requireEqual();
  await fixture.stop();
});

test("a file larger than what is kept in memory comes from the log, a change of it from its older version", async () => {
  await using scene = await StandbyTreeScene.open();
  const large = path.join(scene.root, "large");
  fs.writeFileSync(large, randomBytes(40_000_000));
  await scene.publish();
  const agent = await scene.fixture.ready();
  expect(differences(scene.root, scene.standby)).toBe("");
  const fd = fs.openSync(large, "r+");
  fs.writeSync(fd, "changed", 20_000_000);
  fs.closeSync(fd);
  await applied(agent, await scene.publish());
  expect(differences(scene.root, scene.standby)).toBe("");
});

test("a full disk stops apply without harm, and it goes on when there is room", async () => {
  await using scene = await StandbyTreeScene.open();
  const { fixture } = scene;
  using disk = new SmallDisk(fixture.directory, 12);
  fs.symlinkSync(disk.path, fixture.standby);
  scene.write("small", "1");
  await scene.publish();
  const agent = await fixture.ready();
  scene.write("large", randomBytes(15_000_000));
  for (let i = 0; i < 200; i += 1) scene.write(`many/${i}`, `file ${i}`);
  fs.rmSync(path.join(scene.root, "small"));
  const at = await scene.publish();
  await waitFor("the problem in the status", () => agent.status().problem?.includes("no room on the disk"));
  expect(fs.readFileSync(path.join(scene.standby, "small"), "utf8")).toBe("1");
  expect(fs.existsSync(path.join(scene.standby, "large"))).toBe(false);
  disk.resize(64);
  await applied(agent, at);
  expect(differences(scene.root, scene.standby)).toBe("");
  expect(agent.status().problem).toBeUndefined();
  await fixture.stop();
});

test("a replica that is not root keeps everything but owners, also where rights keep it out", async () => {
  await using scene = await StandbyTreeScene.open();
  const { fixture } = scene;
  scene.write("closed/deep/f", "1");
  scene.write("closed/secret", "2");
  fs.chmodSync(path.join(scene.root, "closed/secret"), 0o000);
  fs.chmodSync(path.join(scene.root, "closed/deep"), 0o000);
  fs.chmodSync(path.join(scene.root, "closed"), 0o555);
  await scene.publish();
  fs.mkdirSync(fixture.standby);
  fs.chownSync(fixture.standby, NOBODY, NOBODY);
  const logDirectory = fixture.log.log.location.replace("embedded:", "");
  execFileSync("chown", ["-R", `${NOBODY}`, logDirectory]);
  const command = [
    "setpriv",
    `--reuid=${NOBODY}`,
    "--clear-groups",
    process.execPath,
    REPLICA,
    logDirectory,
    fixture.standby,
  ] as const;
  const catchUp = async (): Promise<void> => {
    await using replica = new Program([...command]);
    await replica.line("ready", (line) => line === "ready");
    await replica.end("SIGTERM");
    const found = execFileSync("rsync", [
      "-n",
      "-rlpt",
      "--checksum",
      "--delete",
      "-i",
      `${scene.root}/`,
      `${scene.standby}/`,
    ]);
    expect(found.toString()).toBe("");
  };
  await catchUp();
  scene.write("closed/deep/g", "3");
  fs.rmSync(path.join(scene.root, "closed/deep/f"));
  fs.appendFileSync(path.join(scene.root, "closed/secret"), "more");
  await scene.publish();
  await catchUp();
  fs.rmSync(path.join(scene.root, "closed"), { recursive: true });
  await scene.publish();
  await catchUp();
});
