import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import * as fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";

import {
  byteString,
  bytesOf,
  fsPath,
  joinPath,
  nameOf,
  parentPath,
  pathProblem,
  shownPath,
  treePath,
  TREE_ROOT,
  type TreePath,
} from "../../src/event/tree-path.ts";

const latin1 = (text: string): TreePath => byteString(Buffer.from(text)) as TreePath;

test.each([
  ["..", "has the part"],
  ["a/..", "has the part"],
  ["../a", "has the part"],
  [".", "has the part"],
  ["/", "has the part"],
  ["/a", "has the part"],
  ["a//b", "has the part"],
  ["a/", "has the part"],
  ["a\0b", "contains NUL"],
  ["n".repeat(256), "a name of 256 bytes"],
  ["a/".repeat(2047) + "ab", "has 4096 bytes"],
])("no path within a tree: %j", (bytes, problem) => {
  expect(pathProblem(bytes)).toContain(problem);
  expect(treePath(bytes)).toBeUndefined();
});

test.each([
  "",
  "a",
  "...",
  "..a/b.",
  ".hidden",
  "\n",
  "\xff\xfe",
  " ",
  "a\\b",
  "n".repeat(255),
  "a/".repeat(2047) + "b",
])("a path within a tree: %j", (bytes) => {
  expect(treePath(bytes)).toBe(bytes);
});

test("bytes come back whatever they are", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      expect(Buffer.compare(bytesOf(byteString(bytes)), bytes)).toBe(0);
      expect(byteString(bytes).length).toBe(bytes.length);
    }),
  );
});

test("a name that is no UTF-8 leads to its file", () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-ü-"));
  onTestFinished(() => fs.rmSync(directory, { recursive: true }));
  const script = `import os, sys; open(os.fsencode(sys.argv[1]) + b"/caf\\xe9", "w").write("x")`;
  execFileSync("python3", ["-c", script, directory]);
  const [name = ""] = fs.readdirSync(directory, { encoding: "latin1" });
  expect(name).toBe("caf\xe9");
  expect(fs.readFileSync(fsPath(directory, joinPath(TREE_ROOT, name)), "utf8")).toBe("x");
  expect(fs.statSync(fsPath(directory, TREE_ROOT)).isDirectory()).toBe(true);
});

test("parts of a path", () => {
  const inner = joinPath(joinPath(TREE_ROOT, "a"), "b.c");
  expect([inner, parentPath(inner), nameOf(inner)]).toEqual(["a/b.c", "a", "b.c"]);
  expect([parentPath("a" as TreePath), nameOf("a" as TreePath), parentPath(TREE_ROOT)]).toEqual(["", "a", ""]);
});

test.each([
  [latin1("größe/😀.txt"), "größe/😀.txt"],
  ["caf\xe9", "caf\\xe9"],
  [latin1("a\u001b[2J\nb\u0085"), "a\\x1b[2J\\x0ab\\xc2\\x85"],
  [latin1("gpj\u202e.exe"), "gpj\\xe2\\x80\\xae.exe"],
  [latin1("one\u2028two"), "one\\xe2\\x80\\xa8two"],
])("for people: %j", (given, shown) => {
  expect(shownPath(given)).toBe(shown);
});
