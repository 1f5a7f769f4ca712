import { randomBytes } from "node:crypto";
import fs from "node:fs";

import { expect, test } from "vitest";

import { Outbox } from "../../../src/capture/files/outbox.ts";
import { Publisher } from "../../../src/capture/files/publisher.ts";
import { encodeChunks } from "../../../src/event/chunk-list.ts";
import { byteString, TREE_ROOT, treePath } from "../../../src/event/tree-path.ts";
import { TreeScene } from "../../support/tree-scene.ts";

/** Captures what was announced and dies before its index is stored. */
async function dieAfterLook(scene: TreeScene, ...paths: readonly string[]): Promise<void> {
  scene.storing = false;
  await scene.look(...paths);
  await scene.stop({ store: false });
}

test("what was said before a death and is gone after it does not stay in the log", async () => {
  await using scene = await TreeScene.open();
  fs.mkdirSync(scene.at("d/deep"), { recursive: true });
  fs.writeFileSync(scene.at("d/stays"), "1");
  fs.writeFileSync(scene.at("d/deep/gone"), "2");
  fs.writeFileSync(scene.at("back"), "aa");
  await scene.scan();
  fs.writeFileSync(scene.at("brief"), "was there only while the agent lived");
  fs.writeFileSync(scene.at("back"), "bb");
  await dieAfterLook(scene, "brief", "back", "d");
  fs.rmSync(scene.at("brief"));
  fs.rmSync(scene.at("d/deep"), { recursive: true });
  fs.writeFileSync(scene.at("back"), "aa");
  await scene.start();
  const { removals } = await scene.scan();
  expect(removals.map(({ kind, path }) => `${kind} ${path}`).sort()).toEqual([
    "dir.remove d/deep",
    "file.remove brief",
  ]);
  await scene.expectSame();
});

test("an index that was lost is read from the log: no content is sent again, and what is gone is found", async () => {
  await using scene = await TreeScene.open();
  fs.mkdirSync(scene.at("d"));
  const large = randomBytes(2_000_000);
  fs.writeFileSync(scene.at("d/large"), large);
  for (let i = 0; i < 30; i += 1) fs.writeFileSync(scene.at(`d/${i}`), `content ${i}`);
  await scene.scan();
  const before = await scene.counts();
  await scene.stop();
  fs.rmSync(`${scene.directory}/state`, { recursive: true });
  fs.rmSync(scene.at("d/7"));
  fs.writeFileSync(scene.at("d/copy"), large);
  await scene.start();
  const { removals } = await scene.scan();
  expect(removals.map(({ path }) => path)).toEqual(["d/7"]);
  await scene.expectSame();
  const after = await scene.counts();
  expect(after["file.chunk"]).toBe(before["file.chunk"]);
  expect(after["file.put"]).toBe((before["file.put"] ?? 0) + 1);
});

test("a removal that is no longer true by the time it is due is not said", async () => {
  await using scene = await TreeScene.open();
  fs.mkdirSync(scene.at("d"));
  for (const name of ["a", "b", "d/c", "stays"]) fs.writeFileSync(scene.at(name), name);
  await scene.scan();
  fs.rmSync(scene.at("a"));
  fs.rmSync(scene.at("b"));
  fs.rmSync(scene.at("d"), { recursive: true });
  const { signal } = new AbortController();
  const options = { signal, enter: () => false, progress: () => undefined };
  const { removals } = await scene.tree.scan(options);
  expect(removals).toHaveLength(3);
  fs.writeFileSync(scene.at("a"), "again");
  fs.writeFileSync(scene.at("d"), "a file by now");
  await scene.tree.remove(removals);
  await scene.look("a", "d");
  await scene.expectSame();
  expect((await scene.counts())["file.remove"]).toBe(1);
});

test("a list of chunks that is too long for one record comes in parts", async () => {
  await using scene = await TreeScene.open();
  await scene.scan();
  const entries = scene.index.tree("uploads");
  const publisher = new Publisher(new Outbox(scene.feed, scene.index), scene.index, entries);
  const chunks = Array.from({ length: 15_000 }, (_, index) => ({
    id: byteString(randomBytes(32)),
    size: 65_536 + index,
  }));
  const size = chunks.reduce((sum, chunk) => sum + chunk.size, 0);
  const path = treePath("huge") ?? TREE_ROOT;
  const plain = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 1n, put: 77, parts: 0, size, hash: randomBytes(32) };
  const list = encodeChunks(chunks);
  publisher.put({ kind: "file.put", tree: "uploads", path, chunks: list, ...plain }, { stamp: "1 2 3" });
  await publisher.flush();
  await scene.writer.flush();
  const events = await scene.events();
  const parts = events.flatMap(({ body }) => (body.kind === "file.part" ? [body] : []));
  const put = events.map(({ body }) => body).find((body) => body.kind === "file.put");
  expect(parts.map(({ put: number, sequence }) => [number, sequence])).toEqual([
    [77, 0],
    [77, 1],
  ]);
  expect(put?.parts).toBe(2);
  expect(Buffer.concat([...parts.map((part) => part.chunks), put?.chunks ?? Buffer.alloc(0)]).equals(list)).toBe(true);
});
