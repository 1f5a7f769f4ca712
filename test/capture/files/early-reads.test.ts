import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { expect, test } from "vitest";

import { EarlyReads, type EarlyReadsOptions } from "../../../src/capture/files/early-reads.ts";
import { chunksOf } from "../../../src/event/chunk-list.ts";
import { byteString, fsPath, joinPath, type TreePath } from "../../../src/event/tree-path.ts";
import { contentId } from "../../../src/tree/content-id.ts";
import { TreeScene } from "../../support/tree-scene.ts";
import { waitFor, within } from "../../support/wait.ts";

const D = "d" as TreePath;
const YOUNG_MS = 20;

class Scene implements AsyncDisposable {
  readonly root = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-early-"));
  readonly failures: string[] = [];
  readonly early: EarlyReads;

  constructor(options: Partial<EarlyReadsOptions> = {}) {
    fs.mkdirSync(path.join(this.root, "d"));
    this.early = new EarlyReads({
      root: this.root,
      patterns: { exclude: [], include: [] },
      nameKey: undefined,
      ownInodes: () => new Set(),
      onFailure: (error) => this.failures.push(String(error)),
      ...options,
    });
  }

  at(name: string): string {
    return path.join(this.root, "d", name);
  }

  write(name: string, content: string | Buffer): void {
    fs.writeFileSync(this.at(name), content);
  }

  /** Until nothing that was written is young any more. */
  async aged(): Promise<void> {
    const { ctimeMs } = fs.statSync(this.root);
    const newest = Math.max(
      ctimeMs,
      ...fs.readdirSync(this.at("."), "latin1").map((name) => lstat(this.root, name).ms),
    );
    await waitFor("the files are older", () => Date.now() > newest + 2 * YOUNG_MS);
  }

  /** Bytes of what was read early and still stands, by name. */
  async taken(): Promise<Map<string, Buffer>> {
    const taken = new Map<string, Buffer>();
    for (const name of fs.readdirSync(this.at("."), "latin1").sort()) {
      await this.early.reach(joinPath(D, name));
      const content = this.early.take(joinPath(D, name), lstat(this.root, name).stat)?.content;
      if (content) taken.set(name, Buffer.from(content.inline ?? []));
    }
    return taken;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.early[Symbol.asyncDispose]();
    fs.rmSync(this.root, { recursive: true });
  }
}

function lstat(root: string, name: string): { stat: fs.BigIntStats; ms: number } {
  const stat = fs.lstatSync(fsPath(root, joinPath(D, name)), { bigint: true });
  return { stat, ms: Number(stat.ctimeNs / 1_000_000n) };
}

test("small files are read early, in many answers, with content, names and attributes", async () => {
  for (const nameKey of [undefined, randomBytes(32)]) {
    await using scene = new Scene({ nameKey });
    const contents = new Map<string, Buffer>();
    for (let i = 0; i < 300; i += 1) contents.set(`f${i}`, randomBytes(((i * 977) % 60_000) + 1));
    for (const [name, content] of contents) scene.write(name, content);
    fs.writeFileSync(fsPath(scene.root, joinPath(D, "\xff\xfe")), "no UTF-8");
    contents.set("\xff\xfe", Buffer.from("no UTF-8"));
    execFileSync("setfattr", ["-n", "user.note", "-v", "value", scene.at("f1")]);
    await scene.aged();
    scene.early.want(D);
    await scene.early.reach(joinPath(D, "f0"));
    const { stat } = lstat(scene.root, "f1");
    await scene.early.reach(joinPath(D, "f1"));
    const one = scene.early.take(joinPath(D, "f1"), stat);
    const content = contents.get("f1") ?? Buffer.alloc(0);
    expect(one?.xattrs).toEqual(new Map([["user.note", new Uint8Array(Buffer.from("value"))]]));
    expect(byteString(one?.content.hash ?? content)).toBe(byteString(createHash("sha256").update(content).digest()));
    expect([...chunksOf(one?.content.chunks ?? new Uint8Array())]).toEqual([
      { id: contentId(content, nameKey), size: content.length },
    ]);
    contents.delete("f1");
    const wanted = [...contents].filter(([, { length }]) => length % 512 !== 0);
    expect(await scene.taken()).toEqual(new Map(wanted.sort(([a], [b]) => (a < b ? -1 : 1))));
    expect(scene.failures).toEqual([]);
  }
});

test("what SQLite may lock is never opened, nor what is not a small file or is left out", async () => {
  const own = new Set<`${bigint}:${bigint}`>();
  const patterns = { exclude: ["/d/left*"], include: ["left-out-but-in"] };
  await using scene = new Scene({ ownInodes: () => own, patterns });
  const names = [
    "left-out",
    "left-out-but-in",
    "app.db-wal",
    "app.db-shm",
    "app.db-journal",
    "known.db",
    "sectors",
    "plain",
  ];
  for (const name of names) scene.write(name, name === "sectors" ? Buffer.alloc(4096, 1) : `content of ${name}`);
  scene.write("large", Buffer.alloc(65_537, 1));
  scene.write("none", "");
  fs.symlinkSync("plain", scene.at("link"));
  execFileSync("mkfifo", [scene.at("pipe")]);
  const { stat } = lstat(scene.root, "known.db");
  own.add(`${stat.dev}:${stat.ino}`);
  await scene.aged();
  scene.early.want(D);
  expect([...(await scene.taken()).keys()]).toEqual(["left-out-but-in", "plain"]);
});

test("a database that joins the set while its directory is read is not opened any more", async () => {
  let own: ReadonlySet<`${bigint}:${bigint}`> = new Set();
  await using scene = new Scene({ ownInodes: () => own });
  const names = Array.from({ length: 400 }, (_, i) => `f${i + 100}`);
  for (const name of names) scene.write(name, `content of ${name}`);
  await scene.aged();
  scene.early.want(D);
  await scene.early.reach(joinPath(D, "f100"));
  const { stat } = lstat(scene.root, "f499");
  own = new Set([`${stat.dev}:${stat.ino}`] as const);
  expect([...(await scene.taken()).keys()]).toEqual(names.slice(0, -1));
});

test("what changed since counts for nothing", async () => {
  await using scene = new Scene();
  for (const name of ["chmod", "same", "replaced", "written", "xattr"]) scene.write(name, "as it was");
  await scene.aged();
  scene.early.want(D);
  await scene.early.reach(joinPath(D, "xattr"));
  const times = lstat(scene.root, "written").stat.mtimeMs;
  scene.write("written", "as it is!");
  fs.utimesSync(scene.at("written"), Number(times) / 1000, Number(times) / 1000);
  fs.chmodSync(scene.at("chmod"), 0o600);
  scene.write("new", "as it was");
  fs.renameSync(scene.at("new"), scene.at("replaced"));
  execFileSync("setfattr", ["-n", "user.a", "-v", "b", scene.at("xattr")]);
  expect([...(await scene.taken()).keys()]).toEqual(["same"]);
});

test("a file that changed just before it was read is read in its turn", async () => {
  await using scene = new Scene();
  scene.write("first", "starts the thread");
  await scene.aged();
  scene.early.want(D);
  await scene.early.reach(joinPath(D, "first"));
  const found = await waitFor("it is read within a tick of the clock", async () => {
    scene.early.done(D);
    const name = `f${performance.now()}`;
    scene.write(name, "young");
    scene.early.want(D);
    await scene.early.reach(joinPath(D, name));
    const { stat, ms } = lstat(scene.root, name);
    return Date.now() - ms < YOUNG_MS / 2 && { read: scene.early.take(joinPath(D, name), stat) };
  });
  expect(found).toEqual({ read: undefined });
});

test("a link in place of a directory leads nowhere", async () => {
  await using scene = new Scene();
  scene.write("plain", "not to be read through a link");
  await scene.aged();
  fs.symlinkSync("d", path.join(scene.root, "link"));
  const link = "link" as TreePath;
  scene.early.want(link);
  await scene.early.reach(joinPath(link, "plain"));
  expect(scene.early.take(joinPath(link, "plain"), lstat(scene.root, "plain").stat)).toBeUndefined();
});

test.each([
  ["ends", "process.exit()", "the thread that reads small files ended"],
  ["throws", "throw new Error('broken')", "broken"],
])("a thread that %s holds nobody up", async (_what, code, failure) => {
  await using directory = new Scene();
  const thread = directory.at("thread.mjs");
  fs.writeFileSync(thread, `setTimeout(() => { ${code} }, 50)`);
  await using scene = new Scene({ thread: new URL(`file://${thread}`) });
  scene.write("plain", "content");
  await scene.aged();
  scene.early.want(D);
  await within("nothing is waited for any more", 10_000, scene.early.reach(joinPath(D, "plain")) ?? Promise.resolve());
  expect(scene.early.take(joinPath(D, "plain"), lstat(scene.root, "plain").stat)).toBeUndefined();
  expect(scene.failures).toEqual([`Error: ${failure}`]);
  scene.early.want(D);
  expect(scene.early.reach(joinPath(D, "plain"))).toBeUndefined();
});

test("a scan of many directories captures the same as ever, and what changes meanwhile", async () => {
  await using scene = await TreeScene.open();
  const names: string[] = [];
  for (let i = 0; i < 400; i += 1) {
    const directory = ["a", "a/below", "b/c/d", "b/c", "flat"][i % 5] ?? "";
    fs.mkdirSync(scene.at(directory), { recursive: true });
    names.push(`${directory}/${byteString(randomBytes(4)).replaceAll(/[^a-z]/g, "x")}${i}`);
    fs.writeFileSync(scene.at(names[i] ?? ""), randomBytes((i * 331) % 9000));
  }
  fs.linkSync(scene.at(names[0] ?? ""), scene.at("flat/other name"));
  execFileSync("setfattr", ["-n", "user.note", "-v", "value", scene.at(names[1] ?? "")]);
  const scan = scene.scan();
  for (const name of names.slice(100, 120)) fs.appendFileSync(scene.at(name), "more");
  await scan;
  await scene.scan();
  await scene.expectSame();
  expect(scene.said).toEqual([]);
});
