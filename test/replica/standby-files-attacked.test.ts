import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { encodeChunks } from "../../src/event/chunk-list.ts";
import type { EventBody, FilePut } from "../../src/event/kinds.ts";
import { TREE_ROOT, type TreePath } from "../../src/event/tree-path.ts";
import { contentId } from "../../src/tree/content-id.ts";
import { differences } from "../support/random-tree.ts";
import { applied, failure, query } from "../support/replica-fixture.ts";
import { StandbyTreeScene } from "../support/standby-tree.ts";
import { within } from "../support/wait.ts";

// What a log says, or what somebody put on the standby, never makes the replica touch anything outside of it.

const METADATA = { mode: 0o755, uid: 0, gid: 0, mtimeNs: 1n };
const directory = (tree: string, at: string): EventBody => ({
  kind: "dir.put",
  tree,
  path: at as TreePath,
  ...METADATA,
});

function file(tree: string, at: string, text: string): FilePut {
  const data = Buffer.from(text);
  const id = contentId(data);
  const hash = Buffer.from(id, "latin1");
  const chunks = encodeChunks([{ id, size: data.length }]);
  return {
    kind: "file.put",
    tree,
    path: at as TreePath,
    put: 1,
    parts: 0,
    size: data.length,
    hash,
    chunks,
    data,
    ...METADATA,
  };
}

test.each(["..", ".tidemark/up", "a/../../b"])("a tree named %j is refused, and nothing is made", async (name) => {
  await using scene = await StandbyTreeScene.open();
  const { fixture } = scene;
  await fixture.log.append([directory(name, TREE_ROOT), file(name, "f", "bad")]);
  const before = fs.readdirSync(fixture.directory).sort();
  const agent = await fixture.start();
  expect((await within("a halt", 10_000, failure(agent.done))).code).toBe("PATH_UNSAFE");
  expect(fs.readdirSync(fixture.directory).sort()).toEqual([...before, "standby"].sort());
  expect(fs.readdirSync(fixture.standby)).toEqual([".tidemark"]);
});

test.each(["file", "directory"])(
  "a symbolic link that somebody put in the place of a directory is not followed, and named: a %s changed",
  async (changed) => {
    await using scene = await StandbyTreeScene.open();
    const { fixture } = scene;
    const outside = path.join(fixture.directory, "outside");
    fs.mkdirSync(outside);
    fs.writeFileSync(path.join(outside, "old"), "theirs");
    scene.write("sub/deep/old", "1");
    scene.write("sub/deep/new", "1");
    scene.write("sub/deep/same", "1");
    await scene.publish();
    const agent = await fixture.ready();
    // The first look at all of the standby would find the link as well.
    await expect.poll(() => agent.status().treeScrub.at, { timeout: 10_000 }).toBeDefined();
    fs.rmSync(path.join(scene.standby, "sub/deep"), { recursive: true });
    fs.symlinkSync(outside, path.join(scene.standby, "sub/deep"));
    scene.write("sub/deep/new", "2");
    if (changed === "directory") fs.rmSync(path.join(scene.root, "sub/deep/old"));
    await scene.publish();
    const error = await within("a halt", 10_000, failure(agent.done));
    expect(error.code).toBe("PATH_UNSAFE");
    expect(error.message).toContain("uploads/sub/deep is a symbolic link");
    expect(fs.readdirSync(outside)).toEqual(["old"]);
    expect(fs.readFileSync(path.join(outside, "old"), "utf8")).toBe("theirs");
    // As the hint says.
    fs.unlinkSync(path.join(scene.standby, "sub/deep"));
    await fixture.ready();
    await expect.poll(() => differences(scene.root, scene.standby), { timeout: 10_000 }).toBe("");
  },
);

test.each([
  ["in which something is new", "sub/deep/new"],
  ["of which only a file changed", "sub/deep/a"],
])("a directory that somebody removed, %s, comes back with all that was in it", async (_what, changed) => {
  await using scene = await StandbyTreeScene.open();
  for (const name of ["a", "b", "deeper/c"]) scene.write(`sub/deep/${name}`, name);
  await scene.publish();
  const agent = await scene.fixture.ready();
  await expect.poll(() => agent.status().treeScrub.at, { timeout: 10_000 }).toBeDefined();
  fs.rmSync(path.join(scene.standby, "sub/deep"), { recursive: true });
  scene.write(changed, "now");
  await scene.publish();
  await expect.poll(() => differences(scene.root, scene.standby), { timeout: 10_000 }).toBe("");
  // It is said at the end of a pass, of which there is none after this one.
  await expect.poll(() => agent.status().treeScrub.differing, { timeout: 10_000 }).toBeGreaterThanOrEqual(3);
});

test("a symbolic link of the log's own leads nowhere either", async () => {
  await using scene = await StandbyTreeScene.open();
  const { fixture } = scene;
  const link: EventBody = {
    kind: "link.put",
    tree: "up",
    path: "l" as TreePath,
    target: "/tmp",
    uid: 0,
    gid: 0,
    mtimeNs: 1n,
  };
  await fixture.log.append([directory("up", TREE_ROOT), link, file("up", "l/planted", "bad")]);
  const agent = await fixture.start();
  const error = await within("a halt", 10_000, failure(agent.done));
  expect(error.code).toBe("RECORD_INVALID");
  expect(fs.existsSync("/tmp/planted")).toBe(false);
});

test("somebody else's files at a tree's place are not touched", async () => {
  await using scene = await StandbyTreeScene.open();
  const { fixture } = scene;
  scene.write("mine", "mine");
  await scene.publish();
  fs.mkdirSync(scene.standby, { recursive: true });
  fs.writeFileSync(path.join(scene.standby, "theirs"), "theirs");
  const agent = await fixture.start();
  const error = await failure(agent.done);
  expect(error.code).toBe("STANDBY_FOREIGN");
  expect(fs.readdirSync(scene.standby)).toEqual(["theirs"]);
  fs.rmSync(path.join(scene.standby, "theirs"));
  await fixture.ready();
  expect(differences(scene.root, scene.standby)).toBe("");
});

test("--reseed replaces what is there, and leaves nothing of it", async () => {
  await using scene = await StandbyTreeScene.open();
  const { fixture } = scene;
  scene.write("a/mine", "mine");
  scene.write("same", "same");
  await scene.publish();
  fs.mkdirSync(path.join(scene.standby, "a/mine"), { recursive: true });
  fs.writeFileSync(path.join(scene.standby, "a/theirs"), "theirs");
  fs.writeFileSync(path.join(scene.standby, "same"), "same");
  await fixture.ready({ reseed: true });
  expect(differences(scene.root, scene.standby)).toBe("");
  await fixture.stop();
  await fixture.ready();
  expect(differences(scene.root, scene.standby)).toBe("");
});

test("content that is not what its record names stops the replica at that offset, with all before it shown", async () => {
  await using scene = await StandbyTreeScene.open();
  const { fixture } = scene;
  scene.write("good", "1");
  await scene.publish();
  const agent = await fixture.ready();
  scene.write("good", "2");
  scene.write("bad", "what it is");
  const bodies = scene.source
    .changes()
    .puts.map((body): EventBody =>
      body.kind === "file.put" && body.path === "bad" ? { ...body, data: Buffer.from("what it as") } : body,
    );
  const at = await fixture.log.append(bodies);
  const bad = at - bodies.length + 1 + bodies.findIndex((body) => "path" in body && body.path === "bad");
  const error = await within("a halt", 10_000, failure(agent.done));
  expect(error.code).toBe("LOG_CORRUPT");
  expect(error.message).toContain(`offset ${bad}`);
  expect(fs.existsSync(path.join(scene.standby, "bad"))).toBe(false);
  expect(fs.readFileSync(path.join(scene.standby, "good"), "utf8")).toBe(bad === at ? "2" : "1");
});

test("without its index a standby says so", async () => {
  await using scene = await StandbyTreeScene.open();
  const { fixture } = scene;
  const primary = fixture.source("a.db");
  await fixture.log.ship("a.db", primary);
  scene.write("f", "1");
  await scene.publish();
  await fixture.ready();
  await fixture.stop();
  fs.rmSync(fixture.file(".tidemark/trees.db"));
  const agent = await fixture.start();
  expect((await failure(agent.done)).message).toContain("trees.db");
  await fixture.ready({ reseed: true });
  expect(differences(scene.root, scene.standby)).toBe("");
  expect(query(fixture.file("a.db"), "SELECT count(*) FROM t")).toBe("0");
});

test("what strangers changed is put right, and what they added is named", async () => {
  await using scene = await StandbyTreeScene.open({ inline: 100 });
  const { fixture } = scene;
  scene.write("a/content", Buffer.alloc(1_000_000, "0123456789"));
  for (const name of ["gone", "mode", "time", "kind"]) scene.write(`a/${name}`, name);
  scene.write("directory/f", "1");
  fs.symlinkSync("a", path.join(scene.root, "link"));
  await scene.publish();
  await fixture.ready();
  await fixture.stop();
  const at = (name: string): string => path.join(scene.standby, name);
  const { atime, mtime } = fs.statSync(at("a/content"));
  const fd = fs.openSync(at("a/content"), "r+");
  fs.writeSync(fd, "x", 900_000);
  fs.closeSync(fd);
  fs.utimesSync(at("a/content"), atime, mtime);
  fs.rmSync(at("a/gone"));
  fs.chmodSync(at("a/mode"), 0o600);
  fs.utimesSync(at("a/time"), 1, 1);
  fs.rmSync(at("a/kind"));
  fs.mkdirSync(at("a/kind"));
  fs.rmSync(at("directory"), { recursive: true });
  fs.rmSync(at("link"));
  fs.symlinkSync("b", at("link"));
  fs.writeFileSync(at("stray"), "");
  const agent = await fixture.ready();
  await expect.poll(() => agent.status().treeScrub.at, { timeout: 20_000 }).toBeDefined();
  const { treeScrub, trees, verified } = agent.status();
  expect(treeScrub).toMatchObject({ strays: 1, running: false });
  expect(treeScrub.differing).toBeGreaterThanOrEqual(8);
  expect(trees).toMatchObject([
    { name: "uploads", files: 6, bytes: 1_000_000 + 4 * 4 + 1, repairs: treeScrub.differing },
  ]);
  expect(verified).toBe(true);
  expect(differences(scene.root, scene.standby)).toContain("*deleting   stray");
  fs.rmSync(at("stray"));
  scene.write("a/new", "1");
  await applied(agent, await scene.publish());
  expect(differences(scene.root, scene.standby).replace(/^\.d\.\.t.*\n/gm, "")).toBe("");
});
