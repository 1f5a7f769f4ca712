import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { byteString, type TreePath } from "../../../src/event/tree-path.ts";
import { Random } from "../../support/random.ts";
import { TreeScene } from "../../support/tree-scene.ts";

/** What inotify would tell: it names directories as they were called when they were last entered. */
class Watch {
  readonly dirty = new Map<TreePath, Set<string>>();
  readonly #scene: TreeScene;
  readonly #entered = new Map<number, string>();
  readonly #suspect = new Set<string>();

  constructor(scene: TreeScene) {
    this.#scene = scene;
    for (const name of ["", ...namesIn(scene, "")]) {
      const stat = fs.lstatSync(scene.at(name));
      if (stat.isDirectory()) this.#entered.set(stat.ino, name);
    }
  }

  /** After something happened to these names. */
  announce(...names: readonly string[]): void {
    for (const name of names) {
      const directory = this.#entered.get(fs.lstatSync(path.dirname(this.#scene.at(name))).ino);
      if (directory === undefined) continue;
      const at = byteString(Buffer.from(directory)) as TreePath;
      this.dirty.set(at, (this.dirty.get(at) ?? new Set()).add(byteString(Buffer.from(path.basename(name)))));
      this.#suspect.add(byteString(Buffer.from(path.join(directory, path.basename(name)))));
    }
  }

  readonly enter = (directory: TreePath): boolean => this.#suspect.delete(directory);
}

/** Everything in the tree; node's own recursive listing follows links. */
function namesIn(scene: TreeScene, directory: string): string[] {
  return fs.readdirSync(scene.at(directory)).flatMap((name) => {
    const at = path.join(directory, name);
    return fs.lstatSync(scene.at(at)).isDirectory() ? [at, ...namesIn(scene, at)] : [at];
  });
}

/** One random change by an application. */
function change(scene: TreeScene, random: Random, watch: Watch): void {
  const all = namesIn(scene, "")
    .filter((name) => name !== "stays")
    .sort();
  const isDirectory = (name: string): boolean => fs.lstatSync(scene.at(name)).isDirectory();
  const directories = ["", ...all.filter(isDirectory)];
  const others = all.filter((name) => !isDirectory(name));
  const fresh = path.join(random.pick(directories as [string]), random.pick(["a", "b", "c", "ä", "Å", "x y", "d"]));
  const one = all.length > 0 ? random.pick(all as [string]) : undefined;
  const file = others.length > 0 ? random.pick(others as [string]) : undefined;
  const isFree = !fs.lstatSync(scene.at(fresh), { throwIfNoEntry: false });
  const content = (): Buffer => random.bytes(random.pick([0, 5, 5, 900, 66_000]));
  const write = (name: string): void => fs.writeFileSync(scene.at(name), content());
  switch (random.integer(0, 11)) {
    case 0:
    case 1:
      if (isFree) write(fresh);
      watch.announce(fresh);
      break;
    case 2:
      if (!isFree) break;
      fs.mkdirSync(path.join(scene.at(fresh), "deep", "er"), { recursive: true });
      write(path.join(fresh, "deep", "er", "f"));
      watch.announce(fresh);
      break;
    case 3:
      if (one === undefined) break;
      fs.rmSync(scene.at(one), { recursive: true });
      watch.announce(one);
      break;
    case 4:
    case 5: {
      if (one === undefined || !isFree || fresh.startsWith(`${one}/`)) break;
      fs.renameSync(scene.at(one), scene.at(fresh));
      watch.announce(one, fresh);
      break;
    }
    case 6:
      if (file === undefined || !fs.lstatSync(scene.at(file)).isFile()) break;
      fs.appendFileSync(scene.at(file), content());
      watch.announce(file);
      break;
    case 7:
      if (one === undefined || fs.lstatSync(scene.at(one)).isSymbolicLink()) break;
      fs.chmodSync(scene.at(one), random.pick([0o644, 0o600, 0o755]));
      watch.announce(one);
      break;
    case 8:
      if (one === undefined) break;
      fs.lutimesSync(scene.at(one), random.integer(1, 2_000_000_000), random.integer(1, 2_000_000_000));
      watch.announce(one);
      break;
    case 9:
      if (isFree) fs.symlinkSync(random.pick(["a", "..", "nowhere"]), scene.at(fresh));
      watch.announce(fresh);
      break;
    case 10:
      if (file === undefined || !isFree || fs.lstatSync(scene.at(file)).isSymbolicLink()) break;
      fs.linkSync(scene.at(file), scene.at(fresh));
      // inotify names the new one only. What is written through it before it is gone again is found by a scan: see below.
      watch.announce(file, fresh);
      break;
    case 11:
      if (file === undefined || others.length < 2) break;
      // Atomic save: written beside it, then moved over it.
      fs.writeFileSync(scene.at("tmp~"), content());
      fs.renameSync(scene.at("tmp~"), scene.at(file));
      watch.announce("tmp~", file);
      break;
    default:
  }
}

test("after every scan and every look the log, folded, is the tree", async () => {
  const random = new Random("tree property");
  await using scene = await TreeScene.open({ maxDeleteShare: 1 });
  fs.writeFileSync(scene.at("stays"), "1");
  await scene.scan();
  for (let round = 0; round < 30; round += 1) {
    const watch = new Watch(scene);
    for (let i = random.integer(1, 12); i > 0; i -= 1) change(scene, random, watch);
    const kind = random.integer(0, 9);
    if (kind < 6) await scene.lookAt(watch.dirty, watch);
    else await scene.scan();
    if (kind === 9) await scene.restart({ maxDeleteShare: 1 });
    await scene.expectSame();
  }
  expect(Object.keys(await scene.counts()).length).toBeGreaterThan(6);
});

test("what was written through another name that is gone when it is looked at is found by the next scan", async () => {
  await using scene = await TreeScene.open({ maxDeleteShare: 1 });
  fs.writeFileSync(scene.at("one"), "1");
  await scene.scan();
  fs.linkSync(scene.at("one"), scene.at("other"));
  fs.appendFileSync(scene.at("other"), "2");
  fs.writeFileSync(scene.at("new"), "3");
  fs.renameSync(scene.at("new"), scene.at("other"));
  await scene.look("other", "new");
  await scene.scan();
  await scene.expectSame();
});
