import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { inspectTarget, type TargetDirectory } from "../../src/restore/target-directory.ts";
import { RestoreWorkspace } from "../../src/restore/workspace.ts";

/** A target that is a mount point: nothing can be renamed onto it, each entry goes in on its own. */
const inspect = (directory: string): TargetDirectory => ({ ...inspectTarget(directory), work: "inside" });

let target: string;
beforeEach(() => {
  target = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-mount-"));
});
afterEach(() => {
  fs.rmSync(target, { recursive: true, force: true });
});

function contentOfTarget(): Record<string, string> {
  const files = fs.readdirSync(target, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((file) => path.join(file.parentPath, file.name)).toSorted();
  return Object.fromEntries(paths.map((file) => [path.relative(target, file), fs.readFileSync(file, "utf8")]));
}

function put(directory: string, files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
    fs.writeFileSync(path.join(directory, name), text);
  }
}

function restoreFiles(files: Record<string, string>, force: boolean): string | undefined {
  using workspace = RestoreWorkspace.open({ directory: target, force, inspect });
  put(workspace.content, files);
  return workspace.handOver();
}

test("an empty mount point is filled; what every new file system has does not count", () => {
  fs.mkdirSync(path.join(target, "lost+found"));
  expect(restoreFiles({ "a.db": "new", "deep/b.db": "new" }, false)).toBeUndefined();
  expect(contentOfTarget()).toEqual({ "a.db": "new", "deep/b.db": "new" });
  expect(fs.readdirSync(target).toSorted()).toEqual(["a.db", "deep", "lost+found"]);
});

test("content in a mount point is refused, replaced with force, and kept when it is not replaced", () => {
  put(target, { "a.db": "old", "a.db-wal": "old" });
  expect(() => restoreFiles({ "a.db": "new" }, false)).toThrow(/not empty/);
  expect(contentOfTarget()).toEqual({ "a.db": "old", "a.db-wal": "old" });
  expect(restoreFiles({ "a.db": "new" }, true)).toBeUndefined();
  expect(contentOfTarget()).toEqual({ "a.db": "new" });
  put(target, { "notes.txt": "mine" });
  expect(restoreFiles({ "a.db": "newer" }, true)).toBe(path.join(target, "before-restore"));
  expect(contentOfTarget()).toEqual({
    "a.db": "newer",
    "before-restore/a.db": "new",
    "before-restore/notes.txt": "mine",
  });
});

test("a workspace that is not handed over leaves the target as it was", () => {
  put(target, { "a.db": "old" });
  {
    using workspace = RestoreWorkspace.open({ directory: target, force: true, inspect });
    put(workspace.content, { "a.db": "new" });
  }
  expect(contentOfTarget()).toEqual({ "a.db": "old" });
  expect(fs.readdirSync(target)).toEqual(["a.db"]);
});

test("old content that a killed restore had moved away inside a mount point is kept where it is seen", () => {
  put(target, { ".tidemark-restore-999999-0123abcd/old/a.db": "old", ".tidemark-restore-999999-0123abcd/lock": "" });
  put(target, { ".tidemark-restore-999999-4567cdef/new/a.db": "half", ".tidemark-restore-999999-4567cdef/lock": "" });
  expect(() => restoreFiles({ "a.db": "new" }, false)).toThrow(/before-restore/);
  expect(contentOfTarget()).toEqual({ "before-restore/a.db": "old" });
});

test("a workspace that lives is left alone", () => {
  using workspace = RestoreWorkspace.open({ directory: target, force: false, inspect });
  put(workspace.content, { "a.db": "half" });
  expect(() => restoreFiles({ "a.db": "new" }, false)).toThrow(/another restore/);
  expect(fs.readFileSync(path.join(workspace.content, "a.db"), "utf8")).toBe("half");
});
