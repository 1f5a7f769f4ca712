import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { DirtyPaths } from "../../../src/capture/files/dirty-paths.ts";
import { FirstSight } from "../../../src/capture/files/first-sight.ts";
import { ANY_TIME, isLost } from "../../../src/capture/files/lost-files.ts";
import { Sentinel } from "../../../src/capture/files/sentinel.ts";
import type { Dirty } from "../../../src/capture/files/tree-seam.ts";
import { inotify } from "../../../src/capture/files/watch-backend.ts";
import type { TreePath } from "../../../src/event/tree-path.ts";
import { TreeScene } from "../../support/tree-scene.ts";

const at = (text: string): TreePath => text as TreePath;

function sightOf({ root, tree }: TreeScene, entered: TreePath[] = [], found: string[] = []): FirstSight {
  return new FirstSight({
    capture: { root, captures: (one, stat) => tree.captures(one, stat) },
    enter: (directory) => entered.push(directory) > 0,
    onFound: (directory, name) => found.push(`${directory}/${name}`),
  });
}

test("a file that is deleted before its turn comes is in the log, and then gone", async () => {
  await using scene = await TreeScene.open();
  await scene.scan();
  using sight = sightOf(scene);
  fs.writeFileSync(scene.at("file"), "seen for a moment");
  sight.see(at("file"));
  fs.unlinkSync(scene.at("file"));
  const dirty: Dirty = new Map([[at(""), new Set(["file"])]]);
  const { captured } = await scene.lookAt(dirty, { held: sight.take() });
  expect([...captured]).toEqual(["file"]);
  const events = (await scene.events()).map(({ body }) => body).filter(({ kind }) => kind.startsWith("file."));
  expect(events.map(({ kind }) => kind)).toEqual(["file.put", "file.remove"]);
  expect(events[0]).toMatchObject({ path: "file", data: Buffer.from("seen for a moment") });
  await scene.expectSame();
});

test("one that was moved away before its turn comes is not, and known to have been moved", async () => {
  await using scene = await TreeScene.open();
  await scene.scan();
  using sight = sightOf(scene);
  fs.writeFileSync(scene.at("file.part"), "content");
  sight.see(at("file.part"));
  fs.renameSync(scene.at("file.part"), scene.at("file"));
  sight.see(at("file.part"));
  sight.see(at("file"));
  expect(sight.wasMoved(at("file.part"))).toBe(true);
  expect(sight.wasMoved(at("file"))).toBe(false);
  const dirty: Dirty = new Map([[at(""), new Set(["file.part", "file"])]]);
  const { captured } = await scene.lookAt(dirty, { held: sight.take() });
  expect([...captured]).toEqual(["file"]);
  expect((await scene.counts())["file.put"]).toBe(1);
  await scene.expectSame();
});

test("a new directory is watched with all that is in it, but for what is not captured", async () => {
  await using scene = await TreeScene.open({ exclude: ["skipped"] });
  await scene.scan();
  const [entered, found]: [TreePath[], string[]] = [[], []];
  using sight = sightOf(scene, entered, found);
  fs.mkdirSync(scene.at("a/b"), { recursive: true });
  fs.mkdirSync(scene.at("a/skipped"));
  fs.writeFileSync(scene.at("a/b/file"), "deep");
  sight.see(at("a"));
  expect(entered).toEqual(["a", "a/b"]);
  expect(found.toSorted()).toEqual(["a/b", "a/b/file", "a/skipped"]);
  fs.rmSync(scene.at("a/b/file"));
  expect([...sight.take().keys()]).toEqual(["a/b/file"]);
});

/** What inotify announces while `work` runs, judged as the agent does; `captured` by a look in between. */
async function lost(
  { root }: TreeScene,
  { before, captured = [], after = () => undefined }: { before: () => void; captured?: string[]; after?: () => void },
): Promise<string[]> {
  const dirty = new DirtyPaths();
  const onEvent = (kind: "rename" | "change", name: string | undefined): void => {
    if (name !== undefined) dirty.mark(at(""), name, kind);
  };
  using _ = inotify.watch(Buffer.from(root), { onEvent, onFailure: () => undefined });
  const directory = path.join(path.dirname(root), "sentinel");
  using sentinel = new Sentinel({ directory, backend: inotify, patienceMs: 10_000 });
  sentinel.begin();
  const announced = async (work: () => void): Promise<void> => {
    work();
    expect(await sentinel.pass()).toBe(true);
  };
  await announced(before);
  const taken = dirty.take();
  await announced(after);
  const gone = taken.gone(root, { inLog: new Set(), captured: new Set(captured.map(at)) });
  return gone
    .filter((file) => isLost(root, file, { since: (one) => dirty.find(one), fetched: ANY_TIME }))
    .map(({ path: one }) => one);
}

test("what came and went is lost, what was captured in between or moved is not", async () => {
  await using scene = await TreeScene.open();
  const write = (name: string): void => fs.writeFileSync(scene.at(name), name);
  const remove = (name: string): void => fs.rmSync(scene.at(name));
  const replace = (name: string): void => {
    write(`${name}.part`);
    fs.renameSync(scene.at(`${name}.part`), scene.at(name));
  };
  const both = (): void => (write("a"), remove("a"));
  expect(await lost(scene, { before: both })).toEqual(["a"]);
  expect(await lost(scene, { before: () => write("b"), after: () => remove("b") })).toEqual(["b"]);
  expect(await lost(scene, { before: () => write("c"), captured: ["c"], after: () => remove("c") })).toEqual([]);
  const again = (): void => (replace("d"), remove("d"));
  expect(await lost(scene, { before: () => write("d"), captured: ["d"], after: again })).toEqual(["d"]);
  // In place first, and then by a rename: the rename is what came last.
  expect(await lost(scene, { before: () => (write("e"), replace("e")) })).toEqual([]);
  expect(await lost(scene, { before: () => replace("f"), captured: ["f"], after: () => remove("f") })).toEqual([]);
});
