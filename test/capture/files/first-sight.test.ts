import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { DirtyPaths } from "../../../src/capture/files/dirty-paths.ts";
import { FirstSight } from "../../../src/capture/files/first-sight.ts";
import { Sentinel } from "../../../src/capture/files/sentinel.ts";
import { inotify } from "../../../src/capture/files/watch-backend.ts";
import { nameOf, parentPath, type TreePath } from "../../../src/event/tree-path.ts";
import { TreeScene } from "../../support/tree-scene.ts";

// Whatever happens without a pause is announced when it is over: nothing is seen in between.

const at = (text: string): TreePath => text as TreePath;

/** A tree of which every change is announced, as an agent hears of it. */
class Watched implements AsyncDisposable {
  readonly scene: TreeScene;
  readonly sight: FirstSight;
  readonly sentinel: Sentinel;
  readonly dirty = new DirtyPaths();
  readonly entered: TreePath[] = [];
  readonly #watches = new DisposableStack();

  constructor(scene: TreeScene) {
    this.scene = scene;
    const directory = path.join(scene.directory, "sentinel");
    this.sentinel = new Sentinel({ directory, backend: inotify, patienceMs: 10_000 });
    this.sight = new FirstSight({
      capture: scene.tree,
      moments: this.sentinel,
      enter: (one) => this.#enter(one),
      onFound: (one, name) => this.dirty.mark(one, name),
    });
  }

  static async open(options: Parameters<typeof TreeScene.open>[0] = {}): Promise<Watched> {
    const watched = new Watched(await TreeScene.open(options));
    watched.write("kept");
    await watched.scene.scan();
    watched.sentinel.begin();
    watched.#enter(at(""));
    return watched;
  }

  write(name: string, content = name): void {
    fs.writeFileSync(this.scene.at(name), content);
  }

  remove(name: string): void {
    fs.rmSync(this.scene.at(name));
  }

  move(from: string, to: string): void {
    fs.renameSync(this.scene.at(from), this.scene.at(to));
  }

  replace(name: string, content = name): void {
    this.write(`${name}.part`, content);
    this.move(`${name}.part`, name);
  }

  /** Everything until now; the number of a moment after it. */
  async announced(): Promise<number> {
    const passed = await this.sentinel.pass();
    if (passed === undefined) throw new Error("the sentinel was not announced");
    return passed;
  }

  /** What a look at everything that was announced captures. */
  async look(): Promise<string[]> {
    const { held } = this.sight.take();
    const { captured } = await this.scene.lookAt(this.dirty.take(), { held });
    this.sight.release();
    return [...captured].toSorted();
  }

  /** Whether something was lost that may have a row in commits of any time; what went before this is forgotten. */
  async hasLost(): Promise<boolean> {
    const to = await this.announced();
    const lost = this.sight.hasLost({ from: 0, to });
    this.sight.take();
    this.sight.release();
    this.sight.settle(await this.announced());
    return lost;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watches[Symbol.dispose]();
    this.sight[Symbol.dispose]();
    this.sentinel[Symbol.dispose]();
    await this.scene[Symbol.asyncDispose]();
  }

  #enter(directory: TreePath): boolean {
    this.entered.push(directory);
    const onEvent = (kind: "rename" | "change", name: string | undefined): void => {
      if (name === undefined || name === nameOf(directory)) return;
      const one = at(directory === "" ? name : `${directory}/${name}`);
      this.dirty.mark(parentPath(one), name);
      this.sight.announced(one, kind);
    };
    this.#watches.use(inotify.watch(Buffer.from(this.scene.at(directory)), { onEvent, onFailure: () => undefined }));
    return true;
  }
}

test("a file that is deleted before its turn comes is in the log, and then gone", async () => {
  await using watched = await Watched.open();
  watched.write("file", "seen for a moment");
  await watched.announced();
  watched.remove("file");
  expect(await watched.look()).toEqual(["file"]);
  expect(await watched.hasLost()).toBe(false);
  const events = (await watched.scene.events())
    .map(({ body }) => body)
    .filter((body) => "path" in body && body.path === "file");
  expect(events.map(({ kind }) => kind)).toEqual(["file.put", "file.remove"]);
  expect(events[0]).toMatchObject({ path: "file", data: Buffer.from("seen for a moment") });
  await watched.scene.expectSame();
});

test("so is what was written to a file that the log has, right before it was deleted", async () => {
  await using watched = await Watched.open();
  watched.write("file", "first");
  await watched.announced();
  await watched.look();
  fs.appendFileSync(watched.scene.at("file"), ", and more");
  await watched.announced();
  watched.remove("file");
  expect(await watched.look()).toEqual(["file"]);
  expect(await watched.hasLost()).toBe(false);
  const puts = (await watched.scene.events()).map(({ body }) => body).filter(({ kind }) => kind === "file.put");
  expect(puts.at(-1)).toMatchObject({ data: Buffer.from("first, and more") });
  watched.write("unseen", "first");
  await watched.announced();
  await watched.look();
  fs.appendFileSync(watched.scene.at("unseen"), ", and more");
  watched.remove("unseen");
  expect(await watched.hasLost()).toBe(true);
});

test("one that was moved before its turn comes is captured where it is, and there also if it is deleted then", async () => {
  await using watched = await Watched.open();
  watched.write("file.part", "content");
  await watched.announced();
  watched.move("file.part", "file");
  expect(await watched.look()).toEqual([]);
  await watched.announced();
  expect(await watched.look()).toEqual(["file"]);
  expect((await watched.scene.counts())["file.put"]).toBe(2);
  await watched.scene.expectSame();
  watched.write("other.part", "other");
  await watched.announced();
  watched.move("other.part", "other");
  watched.remove("other");
  await watched.announced();
  expect(await watched.look()).toEqual(["other"]);
  expect(await watched.hasLost()).toBe(false);
  watched.write("away", "not in the tree any more");
  await watched.announced();
  fs.renameSync(watched.scene.at("away"), path.join(watched.scene.directory, "away"));
  await watched.announced();
  expect(await watched.look()).toEqual(["away"]);
  expect(await watched.hasLost()).toBe(false);
});

test("a new directory is watched with all that is in it, but for what is not captured; what went before is unknown", async () => {
  await using watched = await Watched.open({ exclude: ["skipped"] });
  fs.mkdirSync(watched.scene.at("a/b"), { recursive: true });
  fs.mkdirSync(watched.scene.at("a/skipped"));
  watched.write("a/b/file", "deep");
  await watched.announced();
  expect(watched.entered).toEqual(["", "a", "a/b"]);
  watched.remove("a/b/file");
  expect(await watched.look()).toEqual(["a/b/file"]);
  expect(await watched.hasLost()).toBe(true);
  expect(await watched.hasLost()).toBe(false);
  // Something else came to it before it was watched.
  fs.mkdirSync(watched.scene.at("c"));
  watched.write("c/file");
  watched.remove("c/file");
  watched.write("c/other");
  expect(await watched.hasLost()).toBe(true);
  watched.write("c/file");
  await watched.announced();
  watched.remove("c/file");
  expect(await watched.hasLost()).toBe(false);
});

test("what came and went is lost, what was captured in between or moved is not", async () => {
  await using watched = await Watched.open();
  const lost = async (...works: (() => void)[]): Promise<boolean> => {
    for (const work of works) {
      work();
      await watched.announced();
    }
    return watched.hasLost();
  };
  const [write, remove, replace] = [
    (name: string) => watched.write(name),
    (name: string) => watched.remove(name),
    (name: string) => watched.replace(name),
  ];
  expect(await lost(() => (write("a"), remove("a")))).toBe(true);
  expect(
    await lost(
      () => write("b"),
      () => remove("b"),
    ),
  ).toBe(false);
  expect(await lost(() => (write("c"), replace("c")))).toBe(false);
  expect(await lost(() => remove("c"))).toBe(false);
  expect(await lost(() => replace("d"))).toBe(false);
  expect(await lost(() => (replace("e"), replace("f"), replace("e")))).toBe(false);
  expect(await lost(() => (replace("g"), remove("g")))).toBe(true);
  // The next file is written beside its place, or in it: neither is the one that is gone.
  expect(await lost(() => (write("h"), remove("h"), replace("i")))).toBe(true);
  expect(await lost(() => (replace("j"), remove("j"), write("k")))).toBe(true);
  expect(await lost(() => (write("l"), remove("l"), write("m.part"), watched.move("m.part", "m")))).toBe(true);
  expect(await lost(() => (write("q"), remove("q"), write("r")))).toBe(true);
  // Of one without content it is not known whether it was made or moved there.
  expect(await lost(() => (write("s"), remove("s"), watched.write("t", "")))).toBe(true);
  // Another one came, and went, and the one that is held is not it.
  expect(
    await lost(
      () => write("n"),
      () => (replace("n"), remove("n")),
    ),
  ).toBe(true);
  expect(
    await lost(
      () => write("o"),
      () => (remove("o"), write("o"), remove("o")),
    ),
  ).toBe(true);
  // The same place is used again, for one that is deleted and one that is moved.
  expect(await lost(() => (write("p.part"), remove("p.part"), replace("p")))).toBe(true);
});

test("what was lost is of no account for commits that were fetched after it went, or before it came", async () => {
  await using watched = await Watched.open();
  const before = await watched.announced();
  watched.write("a");
  watched.remove("a");
  const after = await watched.announced();
  const later = await watched.announced();
  const hasLost = (from: number, to: number): boolean => watched.sight.hasLost({ from, to });
  expect([hasLost(before, after), hasLost(0, after), hasLost(after, later), hasLost(0, before)]).toEqual([
    true,
    true,
    false,
    false,
  ]);
  watched.sight.take();
  expect([hasLost(0, later), hasLost(after, later)]).toEqual([true, false]);
  watched.sight.settle(after);
  expect(hasLost(0, later)).toBe(false);
});
