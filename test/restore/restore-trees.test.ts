import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import type { TreePath } from "../../src/event/tree-path.ts";
import { pictureOf } from "../support/tree-scene.ts";
import { Random } from "../support/random.ts";
import { expectRestored, TreeBench } from "./support/tree-bench.ts";

let bench: TreeBench;
beforeEach(async () => {
  bench = await TreeBench.open();
});
afterEach(async () => {
  await bench[Symbol.asyncDispose]();
});

const EVERYTHING = `
  mkdir -p a/b/c empty; echo hi > a/f; : > a/none; head -c 70000 /dev/urandom > a/b/middle; head -c 1500000 /dev/urandom > a/b/c/large
  ln -s ../nowhere a/link; ln -s . a/loop; ln -s /etc/passwd a/outside; ln a/f a/b/hard; ln a/b/middle empty/../middle2
  cp a/b/c/large a/b/c/copy; truncate -s 3M a/hole; { head -c 600000 /dev/zero; echo end; } > a/zeros
  setfattr -n user.note -v value a/f; setfattr -n user.d -v 1 a/b
  python3 -c 'import os; open(b"a/\\xff\\xfe name", "w").write("x"); os.mkdir(b"a/\\xe9"); open(b"a/\\xe9/in", "w").write("y"); os.symlink(b"\\xfe", b"a/\\xe9/l")'
  touch -d '1969-01-02 03:04:05.123456789' a/none; touch -d '2001-02-03' a/b/c; touch -hd '2002-02-02 02:02:02.222222222' a/link
  mkdir closed; echo shut > closed/file; chmod 000 closed/file; chmod 555 closed; chmod 4711 a/none; chmod 1777 empty`;

test("a tree of everything comes back as it was", async () => {
  await bench.change(EVERYTHING);
  const target = bench.newTarget();
  const report = await bench.restore({ directory: target });
  expectRestored(target, await bench.pictureAt(bench.head));
  expectRestored(target, pictureOf(bench.scene.root));
  const [tree] = report.trees;
  expect(report).toMatchObject({ databases: [], files: { count: tree?.files, bytes: tree?.bytes } });
  expect(tree).toMatchObject({ name: "uploads", directories: 7, links: 4 });
  expect(fs.readdirSync(path.dirname(target))).toEqual([path.basename(target)]);
  // Holes, and what was nothing but zeros, take no room.
  expect(fs.statSync(path.join(target, "uploads/a/hole")).blocks).toBe(0);
});

const CHANGES: readonly [string, ...string[]] = [
  "head -c $((RANDOM * 30)) /dev/urandom > file$((RANDOM % 5))",
  "[ -f d2 ] || { mkdir -p d2/e; echo $RANDOM > d2/f; }; [ -d d1 ] && echo $RANDOM > d1/f || true",
  "rm -rf d$((RANDOM % 3))",
  "rm -f file$((RANDOM % 5))",
  "ln -f file1 hard$((RANDOM % 3)) 2>/dev/null || true",
  "ln -sfn file$((RANDOM % 5)) link$((RANDOM % 2))",
  "[ -f file2 ] && mv file2 file3 || true",
  "[ -d d1 ] && rm -rf d1 && echo now a file > d1 || true",
  "[ -f d1 ] && rm d1 && mkdir d1 || true",
  "chmod $((RANDOM % 2 ? 640 : 755)) file* 2>/dev/null || true",
  "head -c 900000 /dev/urandom > large; echo tail >> large",
  "cp large copy 2>/dev/null || true",
  "touch -d @$((RANDOM * 1000)) . file1 2>/dev/null || true",
];

test(
  "at random points of a log with changes the restored tree is what the log tells",
  { timeout: 60_000 },
  async () => {
    const random = new Random("restore of trees");
    // One stays: a tree that is emptied is taken for one that is not mounted.
    await bench.change("echo first > file1; echo kept > kept");
    for (let round = 0; round < 6; round += 1) {
      const script = Array.from({ length: random.integer(1, 4) }, () => random.pick(CHANGES)).join("\n");
      await bench.change(`RANDOM=${random.integer(1, 32_000)}\n${script}`);
    }
    for (let round = 0; round < 12; round += 1) {
      const to = random.integer(4, bench.head);
      const target = bench.newTarget();
      await bench.restore({ to, directory: target });
      expectRestored(target, await bench.pictureAt(to));
      fs.rmSync(target, { recursive: true });
    }
  },
);

/** A small tree of which paths are asked for. */
const PATHS = `mkdir -p 2026/.draft empty; echo a > 2026/a.pdf; echo b > 2026/.draft/b.pdf; echo c > 2026/c.txt; ln 2026/a.pdf twin.pdf
  echo d > '[1].pdf'; chmod 750 2026; touch -d 2001-01-01 2026`;

test.each([
  [["uploads/2026/a.pdf"], ["uploads", "uploads/2026", "uploads/2026/a.pdf"]],
  [
    ["uploads/**/*.pdf"],
    [
      "uploads",
      "uploads/2026",
      "uploads/2026/.draft",
      "uploads/2026/.draft/b.pdf",
      "uploads/2026/a.pdf",
      "uploads/[1].pdf",
      "uploads/twin.pdf",
    ],
  ],
  [
    ["uploads/2026/.draft", "uploads/[1].pdf"],
    ["uploads", "uploads/2026", "uploads/2026/.draft", "uploads/2026/.draft/b.pdf", "uploads/[1].pdf"],
  ],
  [["uploads/empty"], ["uploads", "uploads/empty"]],
])("--path %j brings these back and the directories on the way", async (paths, expected) => {
  await bench.change(PATHS);
  const target = bench.newTarget();
  const report = await bench.restore({ directory: target, paths });
  expect(bench.names(target)).toEqual(expected);
  const files = expected.filter((name) => fs.statSync(path.join(target, name)).isFile()).length;
  expect(report.files.count).toBe(files);
  const { mode, mtimeMs } = fs.statSync(path.join(target, "uploads"));
  const root = fs.statSync(bench.scene.root);
  expect([mode, Math.round(mtimeMs)]).toEqual([root.mode, Math.round(root.mtimeMs)]);
});

test("a path that is not there names the trees; a tree that ended is not brought back", async () => {
  const before = await bench.change("echo a > a");
  await expect(bench.restore({ paths: ["upload/a"] })).rejects.toMatchObject({
    code: "USAGE",
    hint: expect.stringContaining("uploads"),
  });
  await bench.append({ kind: "dir.remove", tree: "uploads", path: "" as TreePath });
  await expect(bench.restore()).rejects.toMatchObject({ code: "OFFSET_NOT_FOUND" });
  expect(await bench.restore({ to: before })).toMatchObject({ files: { count: 1, bytes: 2 } });
  expect(bench.leftInTargets()).toEqual(["restored-3"]);
});

test("a dry run counts files and bytes, and writes nothing", async () => {
  await bench.change("head -c 1000000 /dev/urandom > large; echo small > small; ln small twin");
  const directory = bench.newTarget();
  const preview = await bench.preview({ directory });
  expect(preview).toMatchObject({ files: { count: 3, bytes: 1_000_012 }, fromOffset: expect.any(Number) });
  expect(preview.bytesNeeded).toBeGreaterThan(1_000_000);
  expect(preview.bytesNeeded).toBeLessThan(3_000_000);
  expect(bench.leftInTargets()).toEqual([]);
});

test("the point is consistent when nothing changed since a consistent one; otherwise that one is named, and taken", async () => {
  const first = await bench.change("echo a > a");
  await expect(bench.restore({ consistent: true })).rejects.toMatchObject({ code: "OFFSET_NOT_FOUND" });
  expect(await bench.preview()).toMatchObject({ consistent: false, nearestConsistent: null });
  const { writer } = bench.scene;
  const whole = await writer.append([{ kind: "mark", name: "whole" }], { consistent: true }).acknowledged;
  const mark = await bench.append({ kind: "mark", name: "later" });
  const at = expect.stringMatching(/Z$/) as string;
  expect(await bench.preview()).toMatchObject({
    offset: mark,
    consistent: true,
    nearestConsistent: { offset: whole, at },
  });
  const last = await bench.change("echo b > b");
  expect(await bench.preview()).toMatchObject({ consistent: false, nearestConsistent: { offset: whole } });
  expect(await bench.preview({ to: first })).toMatchObject({ consistent: false, nearestConsistent: null });
  const target = bench.newTarget();
  const report = await bench.restore({ directory: target, consistent: true });
  expect(report).toMatchObject({ offset: whole, consistent: true, nearestConsistent: { offset: whole } });
  expect(bench.names(target)).toEqual(["uploads", "uploads/a"]);
  expect(last).toBeGreaterThan(mark);
});

test("with --force an earlier restore of a tree is replaced, links and odd names included", async () => {
  await bench.change(EVERYTHING);
  const directory = bench.newTarget();
  await bench.restore({ directory });
  await bench.change("echo changed > a/f");
  expect(await bench.restore({ directory, force: true })).not.toHaveProperty("kept");
  expectRestored(directory, await bench.pictureAt(bench.head));
  fs.symlinkSync("mine", path.join(directory, "uploads", "my-link"));
  expect(await bench.restore({ directory, force: true })).toHaveProperty("kept", `${directory}.before-restore`);
  expect(bench.leftInTargets()).toEqual(["restored-1", "restored-1.before-restore"]);
});
